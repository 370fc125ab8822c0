/** Subscriptions whose broker is not there: what metadata says of them, and that they begin when it comes. */
import { expect, it } from "vitest";
import { PushBroker, SocketsFolder } from "../../components/pluggable/node-component.ts";
import { Application } from "../../end-to-end/application.ts";
import { component } from "./cases/yaml.ts";
import { Daprd } from "./daprd.ts";
import { TopicStream } from "./topic-stream.ts";

it("subscriptions that wait for their broker are in both metadata, and begin as soon as its socket comes", async () => {
  await using sockets = await SocketsFolder.make();
  const resources = component("mypub", "pubsub.broker").replace("spec: {", "spec: {ignoreErrors: true, ");
  await using daprd = await Daprd.start({ resources, env: sockets.env, appId: "app" });
  const opened = TopicStream.open(daprd, "a");
  using app = new Application(daprd.grpcPort);
  using _ = app.subscribe([{ component: "mypub", topic: "b", group: "app" }]);

  await expect
    .poll(async () => (await daprd.metadata()).subscriptions, { timeout: 10_000 })
    .toMatchObject([{ pubsubname: "mypub", topic: "a", type: "STREAMING" }]);
  await expect
    .poll(async () => (await app.runtime.getMetadata({})).subscriptions, { timeout: 10_000 })
    .toMatchObject([{ component: "mypub", topic: "b", group: "app", streams: 1, inFlight: 0 }]);

  const broker = new PushBroker();
  await sockets.serve("broker", { pubsub: broker.implementation });
  using _stream = await opened;
  await expect
    .poll(async () => (await app.runtime.getMetadata({})).subscriptions, { timeout: 10_000 })
    .toEqual(
      expect.arrayContaining([
        expect.objectContaining({ topic: "a", streams: 0 }),
        expect.objectContaining({ topic: "b", streams: 1 }),
      ]),
    );
  expect(broker.topics.map(({ name }) => name).toSorted()).toEqual(["a", "b"]);
});
