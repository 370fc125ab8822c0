import { readFile } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, onTestFinished } from "vitest";
import { parse } from "yaml";
import { makeAssembly } from "../../src/assembly.ts";
import { kafkaPubSub } from "../../src/components/kafka/components.ts";
import { load } from "../../src/config/load.ts";
import { startSidecar } from "../blocks/pubsub/sidecar.ts";
import { directory } from "../config/fixture.ts";
import { sharedKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { openKafkaDriver } from "./kafka/driver.ts";
import { openContext } from "./open-context.ts";

/** What is used of KEDA's resource. */
interface ScaledObject {
  readonly spec: { readonly triggers: readonly { readonly metadata: { readonly query: string } }[] };
}

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

  it("is scaled on the lag by the query of the ScaledObject in docs/components/kafka.md", async () => {
    const page = await readFile(join(import.meta.dirname, "../../docs/components/kafka.md"), "utf8");
    const scaledObject = [...page.matchAll(/^```yaml$(.*?)^```/gms)].find(([, text]) =>
      text!.includes("ScaledObject"),
    )!;
    const { spec } = parse(scaledObject[1]!) as ScaledObject;
    const [, name, selectors] = /^max\((\w+)\{(.*)\}\)$/.exec(spec.triggers[0]!.metadata.query)!;
    const wanted = Object.fromEntries(
      [...selectors!.matchAll(/(\w+)="([^"]*)"/g)].map(([, label, value]) => [label, value]),
    );
    // The page's names, but for what another run of this test may have used.
    const topic = `${wanted["topic"]}.${process.pid}.${Date.now()}`;
    const { port } = await sharedKafka();
    const driver = await openKafkaDriver(port, { topicPartitions: "2" });
    const sidecar = await startSidecar({ wrap: () => driver });
    onTestFinished(() => sidecar.close());
    const stream = sidecar.stream();
    await stream.open({ topic, group: wanted["group"]!, maxInFlight: 1 });
    for (const key of ["a", "b", "c", "d", "e"]) await sidecar.send(topic, { key, event: { id: key } });
    await stream.delivery();
    const series = [...(await sidecar.telemetry.metrics.text()).matchAll(/^(\w+)\{(.*)\} (\S+)$/gm)].filter(
      ([, metric, labels]) =>
        metric === name &&
        Object.entries({ ...wanted, component: "pubsub", topic }).every(([label, value]) =>
          labels!.split(",").includes(`${label}="${value}"`),
        ),
    );
    expect(series.map(([, , , value]) => Number(value))).toEqual([5]);
  }, 30_000);
});
