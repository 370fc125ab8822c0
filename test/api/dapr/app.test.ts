/** An application that listens: how it is waited for, asked, and what its answers mean. */
import { describe, expect, it } from "vitest";
import { Daprd, inMemory, v2 } from "./daprd.ts";
import { GrpcApp } from "./grpc-app.ts";
import { HttpApp } from "./http-app.ts";

describe("an application that listens", () => {
  it("gets the events of the topics that it lists, over HTTP", async () => {
    const subscribe = [{ pubsubname: "mypub", topic: "orders", route: "/orders" }];
    await using app = await HttpApp.start({ subscribe, routes: { "/orders": 200 } });
    await using daprd = await Daprd.start({ resources: inMemory(), app });
    expect(await daprd.publish("orders", '{"id":1}', { "content-type": "application/json" })).toBe(204);
    const { body, headers } = await app.delivered("/orders");
    expect(headers["content-type"]).toBe("application/cloudevents+json");
    expect(body).toMatchObject({ topic: "orders", pubsubname: "mypub", data: { id: 1 } });
  });

  it("gets the events of the topics that it lists, over gRPC", async () => {
    const subscriptions = [{ pubsubName: "mypub", topic: "orders", routes: { default: "/orders" } }];
    await using app = await GrpcApp.start({ subscriptions });
    await using daprd = await Daprd.start({
      resources: inMemory(),
      app: { port: app.port, protocol: "grpc" },
    });
    await daprd.publishEvent("orders", '{"id":1}', "application/json");
    const { event } = await app.delivered("orders");
    expect(event.path).toBe("/orders");
    expect(Buffer.from(event.data).toString()).toBe('{"id":1}');
  });

  it("is asked over HTTP/2 without TLS where it says h2c", async () => {
    await using app = await HttpApp.start({ h2c: true, routes: { "/orders": 200 } });
    const resources = inMemory() + v2("sub", "orders", "/orders");
    await using daprd = await Daprd.start({ resources, app: { port: app.port, protocol: "h2c" } });
    await daprd.publish("orders", "x");
    await app.delivered("/orders");
  });
});
