/** The outbox. */
import { describe, expect, it } from "vitest";
import { SocketsFolder } from "../../../components/pluggable/node-component.ts";
import { Daprd, inMemory, v2 } from "../daprd.ts";
import { GrpcApp } from "../grpc-app.ts";
import { HttpApp } from "../http-app.ts";
import { component } from "./yaml.ts";

const resources =
  component("mystore", "state.in-memory", { outboxPublishPubsub: "mypubsub", outboxPublishTopic: "test" }) +
  inMemory("mypubsub") +
  v2("order", "test", "/test", { pubsubname: "mypubsub", scopes: ["outboxtest"] });
const appId = "outboxtest";

const transact = async (daprd: Daprd, operation: string, metadata: object, value?: unknown) => {
  const request = { key: "1", value, metadata, options: { consistency: "" } };
  const response = await fetch(daprd.url("/v1.0/state/mystore/transaction"), {
    method: "POST",
    body: JSON.stringify({ operations: [{ operation, request }] }),
  });
  expect([response.status, await response.text()]).toEqual([204, ""]);
};

describe("the outbox", () => {
  it("outbox/grpc/upsert", async () => {
    await using app = await GrpcApp.start();
    await using daprd = await Daprd.start({ resources, appId, app: { port: app.port, protocol: "grpc" } });
    await daprd.grpc.executeStateTransaction({
      storeName: "mystore",
      operations: [{ operationType: "upsert", request: { key: "1", value: Buffer.from("2") } }],
    });
    await expect.poll(() => app.events.length, { timeout: 10_000 }).toBe(1);
    expect(Buffer.from(app.events[0]!.event.data).toString()).toBe("2");
    expect(app.events[0]!.event).toMatchObject({ type: "com.dapr.event.sent", topic: "test" });
    // What comes after it comes once as well: there is nothing between them.
    await daprd.publishEvent("test", "last", "", "mypubsub");
    await expect.poll(() => app.events.length, { timeout: 10_000 }).toBe(2);
    expect(Buffer.from(app.events[1]!.event.data).toString()).toBe("last");
  });

  it("outbox/http/upsert", async () => {
    await using app = await HttpApp.start({ routes: { "/test": { status: 200, body: "ok" } } });
    await using daprd = await Daprd.start({ resources, appId, app });
    await transact(daprd, "upsert", { "outbox.cloudevent.myapp": "myapp1", data: "a", id: "b" }, "2");
    const { body } = await app.delivered("/test");
    expect(body).toMatchObject({
      data: "2",
      "outbox.cloudevent.myapp": "myapp1",
      id: expect.stringContaining("outbox-"),
      type: "com.dapr.event.sent",
      source: appId,
    });
    expect(Object.values(body!).filter((value) => typeof value !== "string")).toEqual([]);
    expect(app.to("/test").length).toBe(1);
  });

  it("outbox/http/delete-is-silent", async () => {
    await using app = await HttpApp.start({ routes: { "/test": 200 } });
    await using daprd = await Daprd.start({ resources, appId, app });
    await transact(daprd, "upsert", { "outbox.cloudevent.myapp": "myapp1", data: "a", id: "b" }, "2");
    await transact(daprd, "delete", { "outbox.cloudevent.myapp": "myapp2" });
    // Whatever the deletion published would have come before this.
    await transact(daprd, "upsert", { "cloudevent.type": "last" }, "3");
    expect((await app.delivered("/test", 1)).body).toMatchObject({ type: "last", data: "3" });
    expect(app.to("/test").length).toBe(2);
  });

  it("publishes JSON as such where the item's content type says so, in its metadata or beside it", async () => {
    await using app = await HttpApp.start({ routes: { "/test": 200 } });
    await using daprd = await Daprd.start({ resources, appId, app });
    const upsert = (request: object) => ({
      operation: "upsert",
      request: { key: "1", value: { a: 1 }, ...request },
    });
    for (const [index, request] of [
      { contentType: "application/json" },
      { metadata: { contentType: "application/json" } },
    ].entries()) {
      const body = JSON.stringify({ operations: [upsert(request)] });
      const url = daprd.url("/v1.0/state/mystore/transaction");
      expect((await fetch(url, { method: "POST", body })).status).toBe(204);
      expect((await app.delivered("/test", index)).body).toMatchObject({
        datacontenttype: "application/json",
        data: { a: 1 },
      });
    }
  });

  it("announces a transaction where outboxPubsub says so, whatever topics the application may use", async () => {
    await using sockets = await SocketsFolder.make();
    const announced: string[] = [];
    const publish = ({ topic }: { topic: string }) => {
      announced.push(topic);
      return {};
    };
    await sockets.serve("intents", { pubsub: { publish } });
    const metadata = { outboxPublishPubsub: "mypubsub", outboxPublishTopic: "test", outboxPubsub: "intents" };
    const announcing =
      component("mystore", "state.in-memory", metadata) +
      component("intents", "pubsub.intents", { allowedTopics: "others" }) +
      inMemory("mypubsub") +
      v2("order", "test", "/test", { pubsubname: "mypubsub" });
    await using app = await HttpApp.start({ routes: { "/test": 200 } });
    await using daprd = await Daprd.start({ resources: announcing, appId, app, env: sockets.env });
    await transact(daprd, "upsert", {}, "2");
    expect(announced).toEqual([`${appId}-outbox-announcements`]);
    expect((await app.delivered("/test")).body).toMatchObject({ data: "2" });
    // No event, so nothing to announce.
    await transact(daprd, "delete", {});
    expect(announced).toHaveLength(1);
    expect(await daprd.publish(announced[0]!, "x", {}, "intents")).toBe(403);
  });

  it("publishes a projection in the place of what is saved", async () => {
    await using app = await HttpApp.start({ routes: { "/test": 200 } });
    await using daprd = await Daprd.start({ resources, appId, app });
    const operations = [
      { operation: "upsert", request: { key: "1", value: { whole: true } } },
      {
        operation: "upsert",
        request: { key: "1", value: "shown", metadata: { "outbox.projection": "true" } },
      },
    ];
    const body = JSON.stringify({ operations });
    const url = daprd.url("/v1.0/state/mystore/transaction");
    expect((await fetch(url, { method: "POST", body })).status).toBe(204);
    expect((await app.delivered("/test")).body).toMatchObject({ data: "shown" });
    expect(await (await fetch(daprd.url("/v1.0/state/mystore/1"))).json()).toEqual({ whole: true });
  });
});
