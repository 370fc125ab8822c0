/** State and secrets: what needs no pluggable component. */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Daprd } from "../daprd.ts";
import { errorOf } from "./grpc-errors.ts";
import { inPath, oddName, oddNames } from "./odd-names.ts";
import { component } from "./yaml.ts";

const store = component("mystore", "state.in-memory", { actorStateStore: "true" });
/** Fewer than the 1000 with which daprd was seen: one is as good as another. */
const rounds = 200;

describe("state", () => {
  it("state/grpc/save-basic", async () => {
    await using daprd = await Daprd.start({ resources: store });
    const value = Buffer.from("value1");
    for (const wrong of [
      {},
      { states: [{ key: "key1", value }] },
      { storeName: "mystore", states: [{ value }] },
      { storeName: "mystore", states: [{}] },
    ])
      await expect(daprd.grpc.saveState(wrong)).rejects.toThrow();
    for (const states of [
      [],
      [{ key: "key1" }],
      [
        { key: "key1", value },
        { key: "key2", value },
      ],
      [
        { key: "key1", value },
        { key: "key2", value },
        { key: "key1", value },
        { key: "key2", value },
      ],
    ])
      await daprd.grpc.saveState({ storeName: "mystore", states });
  });

  it("state/grpc/errors", async () => {
    await using daprd = await Daprd.start({ resources: store });
    const states = [{ key: "key1", value: Buffer.from("value1") }];
    const resource = { resourceType: "state", resourceName: "mystore" };
    expect(await errorOf(daprd.grpc.saveState({ storeName: "mystore-doesnt-exist", states }))).toEqual({
      code: "InvalidArgument",
      message: "state store mystore-doesnt-exist is not found",
      count: 1,
      ErrorInfo: { reason: "DAPR_STATE_NOT_FOUND", domain: "dapr.io" },
    });
    const message = "input key/keyPrefix 'invalid||key' can't contain '||'";
    const illegal = { storeName: "mystore", states: [{ key: "invalid||key" }] };
    expect(await errorOf(daprd.grpc.saveState(illegal))).toEqual({
      code: "InvalidArgument",
      message,
      count: 3,
      ErrorInfo: { reason: "DAPR_STATE_ILLEGAL_KEY", domain: "dapr.io" },
      ResourceInfo: resource,
      BadRequest: { fieldViolations: [{ field: "invalid||key", description: message }] },
    });
    const query = '{"filter":{"EQ":{"state":"CA"}},"sort":[{"key":"person.id","order":"DESC"}]}';
    expect(await errorOf(daprd.grpc.queryStateAlpha1({ storeName: "mystore", query }))).toEqual({
      code: "Internal",
      message: "state store does not support querying",
      count: 2,
      ErrorInfo: { reason: "DAPR_STATE_QUERYING_NOT_SUPPORTED", domain: "dapr.io" },
      ResourceInfo: resource,
    });
  });

  it("state/grpc/errors, without any store", async () => {
    await using daprd = await Daprd.start({ appId: "daprd_no_state_store" });
    const call = daprd.grpc.saveState({ storeName: "mystore", states: [{ key: "a" }] });
    expect(await errorOf(call)).toEqual({
      code: "FailedPrecondition",
      message: "state store mystore is not configured",
      count: 1,
      ErrorInfo: { reason: "DAPR_STATE_NOT_CONFIGURED", domain: "dapr.io" },
    });
  });

  it("JSON over gRPC is stored as such, and refused in Go's words where it is none", async () => {
    await using daprd = await Daprd.start({ resources: component("mystore", "state.in-memory") });
    const item = (text: string) => {
      return { key: "j", value: Buffer.from(text), metadata: { contentType: "application/json" } };
    };
    const save = (text: string) => daprd.grpc.saveState({ storeName: "mystore", states: [item(text)] });
    const transact = (text: string) => {
      const operations = [{ operationType: "upsert", request: item(text) }];
      return daprd.grpc.executeStateTransaction({ storeName: "mystore", operations });
    };
    for (const write of [save, transact]) {
      expect(await errorOf(write("not JSON"))).toEqual({
        code: "Unknown",
        message: "invalid character 'o' in literal null (expecting 'u')",
        count: 0,
      });
      await write('{ "a" : [1, "b c"] }');
      const { data } = await daprd.grpc.getState({ storeName: "mystore", key: "j" });
      expect(Buffer.from(data).toString()).toBe('{"a":[1,"b c"]}');
    }
    // What is deleted needs no value, whatever its type.
    const operations = [{ operationType: "delete", request: item("") }];
    await daprd.grpc.executeStateTransaction({ storeName: "mystore", operations });
    expect((await daprd.grpc.getState({ storeName: "mystore", key: "j" })).data).toHaveLength(0);
    await daprd.grpc.deleteBulkState({ storeName: "mystore", states: [item("")] });
  });

  it("an empty key can be asked for and deleted, but not saved", async () => {
    await using daprd = await Daprd.start({ resources: component("mystore", "state.in-memory") });
    const at = { storeName: "mystore", key: "" };
    expect((await daprd.grpc.getState(at)).data).toHaveLength(0);
    await daprd.grpc.deleteState(at);
    await daprd.grpc.deleteBulkState({ storeName: "mystore", states: [{ key: "" }] });
    expect((await daprd.grpc.getBulkState({ storeName: "mystore", keys: [""] })).items).toMatchObject([
      { key: "" },
    ]);
    expect(
      await errorOf(daprd.grpc.saveState({ storeName: "mystore", states: [{ key: "" }] })),
    ).toMatchObject({
      code: "InvalidArgument",
      message: "state key cannot be empty",
    });
  });

  it("state/grpc/odd-keys", async () => {
    const storeName = randomUUID();
    await using daprd = await Daprd.start({ resources: component(storeName, "state.in-memory") });
    let made = 0;
    // The number keeps short ones apart.
    const oddKey = () => `${oddName(false, /\|\|/)}${made++}`;
    const round = async () => {
      const missing = await daprd.grpc.getState({ storeName, key: oddKey() });
      expect(missing.data.length).toBe(0);
      const keys = [...new Set([oddKey(), oddKey()])];
      const states = keys.map((key) => ({ key, value: Buffer.from(randomUUID()) }));
      await daprd.grpc.saveState({ storeName, states });
      for (const { key, value } of states) {
        const { data } = await daprd.grpc.getState({ storeName, key });
        expect(Buffer.from(data).equals(value), key).toBe(true);
      }
      const items = keys.map((key) => ({ key, value: Buffer.from(oddName()).toString("base64") }));
      const response = await fetch(daprd.url(`/v1.0/state/${storeName}`), {
        method: "POST",
        body: JSON.stringify(items),
      });
      expect([response.status, await response.text()]).toEqual([204, ""]);
      for (const { key, value } of items) {
        const { data } = await daprd.grpc.getState({ storeName, key });
        expect(Buffer.from(data).toString()).toBe(JSON.stringify(value));
      }
    };
    await daprd.grpc.saveState({ storeName, states: [] });
    const empty = await fetch(daprd.url(`/v1.0/state/${storeName}`), { method: "POST", body: "null" });
    expect([empty.status, await empty.text()]).toEqual([204, ""]);
    for (let done = 0; done < rounds; done += 5) await Promise.all(Array.from({ length: 5 }, () => round()));
  });

  it("state/http/odd-store-names", async () => {
    const names = oddNames(300, true);
    const files = Object.fromEntries(
      names.map((name, index) => [`store${index}.yaml`, component(name, "state.in-memory")]),
    );
    await using daprd = await Daprd.start({ files });
    for (const name of names) {
      const url = daprd.url(`/v1.0/state/${inPath(name)}`);
      const body = Buffer.from('[{"key": "key1", "value": "value1"}]');
      const saved = await fetch(url, { method: "POST", body });
      expect([saved.status, await saved.text()], name).toEqual([204, ""]);
      const got = await fetch(`${url}/key1`);
      expect([got.status, await got.text()], name).toEqual([200, '"value1"']);
    }
  });

  it("state/http/encryption", async () => {
    const folder = await mkdtemp(join(tmpdir(), "outriderd-key-"));
    try {
      const file = join(folder, "secrets.json");
      await writeFile(file, JSON.stringify({ key: "00112233445566778899aabbccddeeff" }));
      const files = {
        "a.yaml": component("secretstore", "secretstores.local.file", { secretsFile: file }),
        "b.yaml": component(
          "mystore",
          "state.in-memory",
          { primaryEncryptionKey: { secretKeyRef: { name: "key" } } },
          { auth: { secretStore: "secretstore" } },
        ),
      };
      await using daprd = await Daprd.start({ files });
      const body = Buffer.from('[{"key": "key1", "value": "value1"}]');
      const saved = await fetch(daprd.url("/v1.0/state/mystore"), { method: "POST", body });
      expect([saved.status, await saved.text()]).toEqual([204, ""]);
      const got = await fetch(daprd.url("/v1.0/state/mystore/key1"));
      expect([got.status, await got.text()]).toEqual([200, "value1"]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("state/http/ttl", async () => {
    await using daprd = await Daprd.start({ resources: store });
    const body = JSON.stringify([{ key: "key1", value: "value1", metadata: { ttlInSeconds: "3" } }]);
    const saved = await fetch(daprd.url("/v1.0/state/mystore"), { method: "POST", body });
    expect(saved.status).toBe(204);
    const got = await fetch(daprd.url("/v1.0/state/mystore/key1"));
    expect([got.status, await got.text()]).toEqual([200, '"value1"']);
    const leftMs = Date.parse(got.headers.get("metadata.ttlExpireTime") ?? "") - Date.now();
    expect(leftMs).toBeGreaterThan(1500);
    expect(leftMs).toBeLessThan(4000);
    const status = async () => (await fetch(daprd.url("/v1.0/state/mystore/key1"))).status;
    await expect.poll(status, { timeout: 5000 }).toBe(204);
  });

  it("the metadata of a request is that of all its items, of several of one name the first", async () => {
    await using daprd = await Daprd.start({ resources: store });
    const asked = "metadata.ttlInSeconds=600&metadata.ttlInSeconds=1";
    const own = { metadata: { ttlInSeconds: "5" } };
    const bodies = {
      "": [
        { key: "a", value: 1 },
        { key: "b", value: 1, ...own },
      ],
      "/transaction": { operations: [{ operation: "upsert", request: { key: "c", value: 1, ...own } }] },
    };
    for (const [path, body] of Object.entries(bodies)) {
      const url = daprd.url(`/v1.0/state/mystore${path}?${asked}`);
      expect((await fetch(url, { method: "POST", body: JSON.stringify(body) })).status).toBe(204);
    }
    for (const key of ["a", "b", "c"]) {
      const { headers } = await fetch(daprd.url(`/v1.0/state/mystore/${key}`));
      const leftMs = Date.parse(headers.get("metadata.ttlExpireTime") ?? "") - Date.now();
      expect(leftMs).toBeGreaterThan(300_000);
      expect(leftMs).toBeLessThan(601_000);
    }
  });
});

describe("secrets", () => {
  it("secret/http/odd-names", async () => {
    const folder = await mkdtemp(join(tmpdir(), "outriderd-secrets-"));
    try {
      const secrets = Object.fromEntries(
        Array.from({ length: rounds }, () => [base64(oddName()), base64(oddName())]),
      );
      const file = join(folder, "secrets.json");
      await writeFile(file, JSON.stringify(secrets));
      const name = randomUUID();
      const resources = component(name, "secretstores.local.file", { secretsFile: file });
      await using daprd = await Daprd.start({ resources });
      expect((await daprd.metadata()).components).toEqual([
        { name, type: "secretstores.local.file", version: "v1" },
      ]);
      for (const [key, value] of Object.entries(secrets)) {
        const response = await fetch(daprd.url(`/v1.0/secrets/${name}/${encodeURIComponent(key)}`));
        expect([response.status, (await response.text()).trimEnd()]).toEqual([
          200,
          JSON.stringify({ [key]: value }),
        ]);
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
