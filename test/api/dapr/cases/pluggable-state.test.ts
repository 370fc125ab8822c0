/** State: what needs pluggable components. */
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { StateOptions_StateConcurrency } from "../../../../gen/dapr/proto/common/v1/common_pb.ts";
import { memoryStore } from "../../../components/pluggable/memory-store.ts";
import { askedError, SocketsFolder } from "../../../components/pluggable/node-component.ts";
import { Daprd } from "../daprd.ts";
import { errorOf } from "./grpc-errors.ts";
import { component, configuration } from "./yaml.ts";

const all = ["ETAG", "TRANSACTIONAL", "TTL"];
const query = '{"filter":{"EQ":{"state":"CA"}},"sort":[{"key":"person.id","order":"DESC"}]}';

describe("pluggable", () => {
  it("pluggable/state-basic", { timeout: 30_000 }, async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("mystore-socket", memoryStore(all));
    await using daprd = await Daprd.start({
      resources: component("mystore", "state.mystore-socket"),
      env: sockets.env,
    });
    const storeName = "mystore";
    const firstWrite = { concurrency: StateOptions_StateConcurrency.CONCURRENCY_FIRST_WRITE };
    const ttl = { ttlInSeconds: "1" };
    expect((await daprd.grpc.getMetadata({})).registeredComponents).toMatchObject([
      { name: "mystore", type: "state.mystore-socket", capabilities: [...all, "ACTOR"] },
    ]);
    const states = [
      { key: "key1" },
      { key: "key2", options: firstWrite },
      { key: "key3", metadata: ttl },
      { key: "key4", options: firstWrite, metadata: ttl },
    ].map((item, index) => ({ ...item, value: Buffer.from(`value${index + 1}`) }));
    const savedAtMs = Date.now();
    await daprd.grpc.saveState({ storeName, states });
    const key2 = await daprd.grpc.getState({ storeName, key: "key2" });
    const key4 = await daprd.grpc.getState({ storeName, key: "key4" });
    const keys = states.map(({ key }) => key);
    const { items } = await daprd.grpc.getBulkState({ storeName, keys });
    expect(items.map(({ key, data }) => [key, Buffer.from(data).toString()])).toEqual(
      keys.map((key, index) => [key, `value${index + 1}`]),
    );
    expect([items[1]!.etag, items[3]!.etag]).toEqual([key2.etag, key4.etag]);
    expect(items[0]!.metadata).toEqual({});
    for (const { metadata } of [items[2]!, items[3]!]) {
      const expires = Date.parse(metadata["ttlExpireTime"]!);
      expect(Math.abs(expires - savedAtMs - 1000)).toBeLessThanOrEqual(1000);
    }
    await daprd.grpc.deleteState({ storeName, key: "key1" });
    await daprd.grpc.deleteBulkState({ storeName, states: [{ key: "key2" }] });
    for (const key of ["key3", "key4"])
      await expect
        .poll(async () => (await daprd.grpc.getState({ storeName, key })).data.byteLength, {
          timeout: 10_000,
        })
        .toBe(0);
  });
});

it("a component gets what clients say to it beside their requests", { timeout: 30_000 }, async () => {
  await using sockets = await SocketsFolder.make();
  const services = memoryStore(all);
  const { get, set, delete: remove, bulkGet } = services.state!;
  const heard: [string, Readonly<Record<string, string>>][] = [];
  await sockets.serve("store", {
    ...services,
    state: {
      ...services.state,
      get: (request, context) => {
        heard.push(["get", request.metadata]);
        return get!(request, context);
      },
      set: (request, context) => {
        heard.push(["set", request.metadata]);
        return set!(request, context);
      },
      delete: (request, context) => {
        heard.push(["delete", request.metadata]);
        return remove!(request, context);
      },
      bulkGet: (request, context) => {
        heard.push(["bulkGet", request.items[0]!.metadata]);
        return bulkGet!(request, context);
      },
    },
  });
  await using daprd = await Daprd.start({ resources: component("mystore", "state.store"), env: sockets.env });
  const storeName = "mystore";
  const metadata = { partitionKey: "p" };
  const saved = { ...metadata, ttlInSeconds: "60" };
  const states = [{ key: "a", value: Buffer.from("1"), metadata: saved }];
  await daprd.grpc.saveState({ storeName, states });
  await daprd.grpc.getState({ storeName, key: "a", metadata });
  await fetch(daprd.url("/v1.0/state/mystore/a?metadata.partitionKey=p"));
  await daprd.grpc.getBulkState({ storeName, keys: ["a", "b"], metadata });
  await daprd.grpc.deleteState({ storeName, key: "a", metadata });
  expect(heard).toEqual([
    ["set", saved],
    ["get", metadata],
    ["get", metadata],
    ["bulkGet", metadata],
    ["delete", metadata],
  ]);
});

describe("state", () => {
  it("a store that can be queried cannot be when its values are encrypted; another still says that it cannot at all", async () => {
    await using sockets = await SocketsFolder.make();
    const never = () => {
      throw new Error("it is not asked");
    };
    await sockets.serve("querier", { ...memoryStore(all), queriable: { query: never } });
    const keyed = { primaryEncryptionKey: { secretKeyRef: { name: "STORE_KEY", key: "STORE_KEY" } } };
    const auth = { auth: { secretStore: "secrets" } };
    await using daprd = await Daprd.start({
      resources:
        component("secrets", "secretstores.local.env") +
        component("querier", "state.querier", keyed, auth) +
        component("mystore", "state.in-memory", keyed, auth),
      env: { ...sockets.env, STORE_KEY: "00112233445566778899aabbccddeeff" },
    });
    expect(await errorOf(daprd.grpc.queryStateAlpha1({ storeName: "querier", query }))).toMatchObject({
      code: "Internal",
      message: "state store querier query failed: cannot query encrypted store",
    });
    expect(await errorOf(daprd.grpc.queryStateAlpha1({ storeName: "mystore", query }))).toMatchObject({
      code: "Internal",
      message: "state store does not support querying",
    });
  });

  it("state/grpc/errors", { timeout: 30_000 }, async () => {
    await using sockets = await SocketsFolder.make();
    const multiMaxSize = { multiMaxSize: () => ({ maxSize: 1n }) };
    const never = () => {
      throw new ConnectError("this is a custom error string", Code.Internal);
    };
    await sockets.serve("bare", { ...memoryStore([]), multiMaxSize });
    await sockets.serve("querier", { ...memoryStore(all), queriable: { query: never } });
    await sockets.serve("one", { ...memoryStore(all), multiMaxSize });
    const [bare, querier, one] = [
      "mystore-non-transactional",
      "mystore-pluggable-querier",
      "mystore-pluggable-multimaxsize",
    ];
    await using daprd = await Daprd.start({
      resources:
        component("mystore", "state.in-memory") +
        component(bare!, "state.bare") +
        component(querier!, "state.querier") +
        component(one!, "state.one"),
      env: sockets.env,
    });
    const { registeredComponents } = await daprd.grpc.getMetadata({});
    expect(registeredComponents.find(({ name }) => name === bare)).toMatchObject({ capabilities: [] });
    const resource = (resourceName: string) => ({ ResourceInfo: { resourceType: "state", resourceName } });
    expect(await errorOf(daprd.grpc.queryStateAlpha1({ storeName: "mystore", query }))).toEqual({
      code: "Internal",
      message: "state store does not support querying",
      count: 2,
      ErrorInfo: { reason: "DAPR_STATE_QUERYING_NOT_SUPPORTED", domain: "dapr.io" },
      ...resource("mystore"),
    });
    const failed = await errorOf(daprd.grpc.queryStateAlpha1({ storeName: querier!, query }));
    expect(failed).toMatchObject({
      code: "Internal",
      count: 2,
      ErrorInfo: { reason: "DAPR_STATE_QUERY_FAILED", domain: "dapr.io" },
      ...resource(querier!),
    });
    expect(failed.message).toContain("state store mystore-pluggable-querier query failed: ");
    expect(failed.message).toContain("this is a custom error string");
    const operations = [
      { operationType: "upsert", request: { key: "key1", value: Buffer.from("value1") } },
      { operationType: "delete", request: { key: "key2" } },
    ];
    const transact = (storeName: string) => daprd.grpc.executeStateTransaction({ storeName, operations });
    expect(await errorOf(transact(one!))).toEqual({
      code: "InvalidArgument",
      message: "the transaction contains 2 operations, which is more than what the state store supports: 1",
      count: 2,
      ErrorInfo: {
        reason: "DAPR_STATE_TOO_MANY_TRANSACTIONS",
        domain: "dapr.io",
        metadata: { currentOpsTransaction: "2", maxOpsPerTransaction: "1" },
      },
      ...resource(one!),
    });
    expect(await errorOf(transact(bare!))).toMatchObject({
      code: "Unimplemented",
      message: "state store mystore-non-transactional doesn't support transactions",
      count: 3,
      ErrorInfo: { reason: "DAPR_STATE_TRANSACTIONS_NOT_SUPPORTED" },
      ...resource(bare!),
    });
  });

  it("state/http/component-errors", { timeout: 30_000 }, async () => {
    await using sockets = await SocketsFolder.make();
    const fails = (code: Code, text: string, httpCode: number) => () => {
      const name = text.replace("-error", "");
      throw askedError(code, text, {
        httpCode,
        tag: `${name}-tag`,
        reason: `${name}-reason`,
        domain: `${name}-domain`,
      });
    };
    await sockets.serve("failing", {
      state: {
        get: fails(Code.DataLoss, "get-error", 506),
        bulkSet: fails(Code.Canceled, "bulkset-error", 510),
        delete: fails(Code.OutOfRange, "delete-error", 511),
        set: fails(Code.ResourceExhausted, "set-error", 512),
      },
      queriable: { query: fails(Code.AlreadyExists, "query-error", 509) },
    });
    const metrics = { enabled: true, recordErrorCodes: true };
    await using daprd = await Daprd.start({
      resources: component("mystore", "state.failing"),
      configs: [configuration({ metric: metrics, metrics })],
      env: sockets.env,
    });
    const ask = async (method: string, path: string, body?: unknown) => {
      const init = { method, ...(body !== undefined && { body: JSON.stringify(body) }) };
      const response = await fetch(daprd.url(path), init);
      return [response.status, await response.json()];
    };
    const error = (code: string, text: string) => `api error: code = ${code} desc = ${text}`;
    expect(await ask("GET", "/v1.0/state/mystore/key1")).toEqual([
      506,
      {
        errorCode: "ERR_STATE_GET",
        message: `fail to get key1 from state store mystore: ${error("DataLoss", "get-error")}`,
      },
    ]);
    const saved = "failed saving state in state store mystore: ";
    const items = [
      { key: "key1", value: "value1" },
      { key: "key2", value: "value2" },
    ];
    expect(await ask("POST", "/v1.0/state/mystore", items)).toEqual([
      510,
      { errorCode: "ERR_STATE_SAVE", message: saved + error("Canceled", "bulkset-error") },
    ]);
    expect(await ask("POST", "/v1.0/state/mystore", items.slice(1))).toEqual([
      512,
      { errorCode: "ERR_STATE_SAVE", message: saved + error("ResourceExhausted", "set-error") },
    ]);
    expect(await ask("DELETE", "/v1.0/state/mystore/key1")).toEqual([
      511,
      {
        errorCode: "ERR_STATE_DELETE",
        message: `failed deleting state with key key1: ${error("OutOfRange", "delete-error")}`,
      },
    ]);
    expect(await ask("POST", "/v1.0-alpha1/state/mystore/query", JSON.parse(query))).toEqual([
      509,
      {
        errorCode: "query-tag",
        message: "query-error",
        details: [
          {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            domain: "query-domain",
            metadata: null,
            reason: "query-reason",
          },
        ],
      },
    ]);
    const scraped = await daprd.metrics();
    for (const [code, count] of Object.entries({ ERR_STATE_SAVE: 2, ERR_STATE_GET: 1, ERR_STATE_DELETE: 1 }))
      expect(scraped).toContain(
        `dapr_error_code_total{app_id="${daprd.appId}",category="state",error_code="${code}"} ${count}\n`,
      );
    expect(scraped).not.toContain("query-tag");
  });
});
