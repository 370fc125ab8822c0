/** Errors of publishing. */
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { SocketsFolder } from "../../../components/pluggable/node-component.ts";
import { Application } from "../../../end-to-end/application.ts";
import { Daprd, inMemory } from "../daprd.ts";
import { errorOf } from "./grpc-errors.ts";
import { component } from "./yaml.ts";

describe("publishing", () => {
  it("pubsub/grpc/error-details", async () => {
    const appId = "errors";
    await using sockets = await SocketsFolder.make();
    const publishFails = () => {
      throw new ConnectError("outbox error", Code.Unknown);
    };
    await sockets.serve("failing", { pubsub: { publish: publishFails } });
    const outbox = {
      outboxPublishPubsub: "pubsub-outbox",
      outboxPubsub: "pubsub-outbox",
      outboxPublishTopic: "goodTopic",
      outboxDiscardWhenMissingState: "false",
    };
    const resources =
      inMemory("mypubsub") +
      component("pubsub-outbox", "pubsub.failing") +
      component("state-outbox", "state.in-memory", outbox);
    await using daprd = await Daprd.start({ resources, appId, env: sockets.env });
    const ResourceInfo = { resourceType: "pubsub", resourceName: "mypubsub" };
    const info = (reason: string, metadata?: object) => ({
      ErrorInfo: { reason, domain: "dapr.io", ...(metadata && { metadata }) },
    });
    const publish = (fields: object) =>
      errorOf(daprd.grpc.publishEvent({ pubsubName: "mypubsub", topic: "topic", ...fields }));
    expect(await publish({ pubsubName: "pubsub-doesn't-exist" })).toEqual({
      code: "InvalidArgument",
      message: "pubsub pubsub-doesn't-exist is not found",
      count: 1,
      ...info("DAPR_PUBSUB_NOT_FOUND"),
    });
    expect(await publish({ pubsubName: "" })).toEqual({
      code: "InvalidArgument",
      message: "pubsub name is empty",
      count: 2,
      ...info("DAPR_PUBSUB_NAME_EMPTY"),
      ResourceInfo: { resourceType: "pubsub" },
    });
    expect(await publish({ topic: "" })).toEqual({
      code: "InvalidArgument",
      message: "topic is empty in pubsub mypubsub",
      count: 2,
      ...info("DAPR_PUBSUB_TOPIC_NAME_EMPTY"),
      ResourceInfo,
    });
    const notBoolean = "rawPayload value must be a valid boolean: actual is 'invalidBooleanValue'";
    expect(await publish({ metadata: { rawPayload: "invalidBooleanValue" } })).toEqual({
      code: "InvalidArgument",
      message: `failed deserializing metadata. Error: ${notBoolean}`,
      count: 2,
      ...info("DAPR_PUBSUB_METADATA_DESERIALIZATION", { appID: appId, error: notBoolean }),
      ResourceInfo,
    });
    const invalid = {
      metadata: { rawPayload: "false" },
      data: Buffer.from('{"missing_quote: invalid}'),
      dataContentType: "application/cloudevents+json",
    };
    expect(await publish(invalid)).toEqual({
      code: "InvalidArgument",
      message: "cannot create cloudevent",
      count: 2,
      ...info("DAPR_PUBSUB_CLOUD_EVENT_CREATION", { appID: appId, error: expect.stringMatching(/./) }),
      ResourceInfo,
    });
    const why = "entryId is duplicated or not present for entry";
    const bulk = { pubsubName: "mypubsub", topic: "topic", entries: [{ event: Buffer.from("x") }] };
    expect(await errorOf(daprd.grpc.bulkPublishEvent(bulk))).toEqual({
      code: "InvalidArgument",
      message: `error marshaling events to bytes for topic topic pubsub mypubsub. error: ${why}`,
      count: 2,
      ...info("DAPR_PUBSUB_MARSHAL_EVENTS", { appID: appId, error: why }),
      ResourceInfo,
    });
    const operations = [
      { operationType: "upsert", request: { key: "key1", value: Buffer.from("1") } },
      { operationType: "delete", request: { key: "key2" } },
    ];
    const transaction = { storeName: "state-outbox", operations };
    const refusal = "rpc error: code = Unknown desc = outbox error";
    expect(await errorOf(daprd.grpc.executeStateTransaction(transaction))).toEqual({
      code: "Internal",
      message: `error while publishing outbox message: ${refusal}`,
      count: 1,
      ...info("DAPR_PUBSUB_OUTBOX", { appID: appId, error: refusal }),
    });
    const { data } = await daprd.grpc.getState({ storeName: "state-outbox", key: "key1" });
    expect(data).toHaveLength(0);
    const body = JSON.stringify({ operations: [{ operation: "upsert", request: { key: "1", value: 1 } }] });
    const url = daprd.url("/v1.0/state/state-outbox/transaction");
    const response = await fetch(url, { method: "POST", body });
    expect([response.status, await response.json()]).toMatchObject([
      500,
      { errorCode: "ERR_PUBLISH_OUTBOX" },
    ]);
    // The native API commits, and publishes when the broker takes it.
    using app = new Application(daprd.grpcPort);
    const value = { key: "native", value: Buffer.from("1") };
    await app.state.transact({ component: "state-outbox", writes: [{ write: { case: "set", value } }] });
  });

  it("tells over HTTP what is wrong, with Dapr's codes", async () => {
    await using daprd = await Daprd.start({ resources: inMemory("mypubsub", { allowedTopics: "a" }) });
    const answer = async (path: string, headers: Record<string, string> = {}) => {
      const body = Buffer.from("{");
      const response = await fetch(daprd.url(path), { method: "POST", headers, body });
      const { errorCode } = (await response.json()) as { errorCode: string };
      return [response.status, errorCode];
    };
    expect(await answer("/v1.0/publish/nobody/a")).toEqual([404, "ERR_PUBSUB_NOT_FOUND"]);
    expect(await answer("/v1.0/publish/mypubsub/")).toEqual([404, "ERR_TOPIC_NAME_EMPTY"]);
    expect(await answer("/v1.0/publish/mypubsub/b")).toEqual([403, "ERR_PUBSUB_FORBIDDEN"]);
    expect(await answer("/v1.0/publish/mypubsub/a?metadata.rawPayload=x")).toEqual([
      400,
      "ERR_PUBSUB_REQUEST_METADATA",
    ]);
    const event = { "content-type": "application/cloudevents+json" };
    expect(await answer("/v1.0/publish/mypubsub/a", event)).toEqual([500, "ERR_PUBSUB_CLOUD_EVENTS_SER"]);
    expect(await answer("/v1.0/publish/bulk/mypubsub/a")).toEqual([400, "ERR_PUBSUB_EVENTS_SER"]);
  });
});
