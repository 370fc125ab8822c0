import { connect, createServer, type Server } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { makeAssembly } from "../../src/assembly.ts";
import { kafkaPubSub } from "../../src/components/kafka/components.ts";
import { load } from "../../src/config/load.ts";
import { startSidecar } from "../blocks/pubsub/sidecar.ts";
import { directory } from "../config/fixture.ts";
import { sharedKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { openContext } from "./open-context.ts";

/** A file of somebody who uses it with other programs. */
const yaml = `apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: kafka-pubsub
spec:
  type: pubsub.kafka
  version: v1
  metadata:
    - name: brokers
      value: localhost:29092
    - name: authRequired
      value: "false"
    - name: consumerGroup
      value: connector-service-group
    - name: publishTopic
      value: payment-events
    - name: subscribeTopics
      value: payment-events
`;

async function loadYaml(text: string) {
  const path = await directory({ "kafka.yaml": text });
  const { components } = await load({
    ...makeAssembly(),
    resourcesPaths: [path],
    configPaths: [],
    appId: "connector",
    environment: {},
  });
  return components.find(({ name }) => name === "kafka-pubsub")!;
}

describeWith("kafka", "a file with fields of older and foreign vintage", () => {
  let forwarder: Server;

  beforeAll(async () => {
    const { port } = await sharedKafka();
    // Whoever develops against a Kafka on this port has one there already, which is as good.
    forwarder = createServer((socket) => {
      const upstream = connect({ host: "127.0.0.1", port });
      socket.pipe(upstream).pipe(socket);
      for (const end of [socket, upstream]) end.on("error", () => socket.destroy());
    });
    await new Promise<void>((resolve) => {
      forwarder.once("error", () => resolve());
      forwarder.listen(29_092, () => resolve());
    });
  }, 60_000);
  afterAll(() => void forwarder.close());

  it("works word for word: its topic and group are those of whoever names none", async () => {
    const resource = await loadYaml(yaml);
    const driver = await kafkaPubSub.configure(resource.settings)(openContext({ name: "kafka-pubsub" }));
    const sidecar = await startSidecar({
      settings: {
        consumerGroup: "connector-service-group",
        publishTopic: "payment-events",
        subscribeTopics: "payment-events",
      },
      wrap: () => driver,
    });
    expect(resource.blockSettings).toMatchObject({
      consumerGroup: "connector-service-group",
      publishTopic: "payment-events",
      subscribeTopics: ["payment-events"],
    });
    const stream = sidecar.stream();
    const agreed = await stream.open({ start: { at: { case: "latest", value: true } } });
    expect(agreed).toMatchObject({ topic: "payment-events", group: "connector-service-group" });
    const [id] = await sidecar.publish("", "paid");
    const delivery = await stream.delivery();
    expect(delivery).toMatchObject({ topic: "payment-events", event: { id } });
    await sidecar.close();
  }, 30_000);

  it("names a mistake with file, line and field", async () => {
    await expect(loadYaml(yaml.replace("publishTopic", "publishTopik"))).rejects.toThrow(
      /kafka\.yaml:15.*unknown field "publishTopik"; did you mean "publishTopic"/,
    );
  });
});
