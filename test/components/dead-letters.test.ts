/** Dead letters where a broker has little room. */
import { randomBytes } from "node:crypto";
import { ConfigResourceTypes, Kafka, logLevel } from "kafkajs";
import { beforeAll, expect, it, onTestFinished } from "vitest";
import { type Delivery, Outcome } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import { type Stream, startSidecar } from "../blocks/pubsub/sidecar.ts";
import { sharedKafka } from "../servers/kafka.ts";
import { sharedNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import { openPubSub } from "./jetstream-server.ts";
import { openKafkaDriver } from "./kafka/driver.ts";

const fresh = (name: string) => `${name}-${process.pid}-${Date.now()}`;
/** Data that take a third more in a document, which is then larger than a broker takes. */
const large = randomBytes(1_000_000);

async function sidecarOn(driver: PubSubDriver) {
  const sidecar = await startSidecar({ wrap: () => driver });
  onTestFinished(() => sidecar.close());
  return sidecar;
}

async function reject(stream: Stream): Promise<void> {
  stream.settle(Outcome.REJECT, [await stream.delivery()], { reason: "poison" });
}

function expectLetter({ event }: Delivery, topic: string): void {
  expect(event!.extensions).toEqual({
    deadletterreason: "rejected",
    deadlettertopic: topic,
    deadlettergroup: "app",
  });
  expect(Buffer.compare(event!.data, large)).toBe(0);
}

describeWith("kafka", "dead letters on Kafka", () => {
  let kafka: Kafka;
  let port: number;

  beforeAll(async () => {
    ({ port } = await sharedKafka());
    kafka = new Kafka({ brokers: [`127.0.0.1:${port}`], logLevel: logLevel.NOTHING });
  }, 60_000);

  const small = { maxMessageBytes: "1Mi", topicConfigs: "max.message.bytes=1048588" };

  it("of records that fill a topic have room in one that is as large", async () => {
    const [topic, dead] = [fresh("full"), fresh("dead")];
    const sidecar = await sidecarOn(await openKafkaDriver(port, small));
    const stream = sidecar.stream();
    await stream.open({ subscription: 1, topic, deadLetterTopic: dead });
    await stream.open({ subscription: 2, topic: dead });
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({ topic, messages: [{ value: large }] });
    await producer.disconnect();
    await reject(stream);
    expectLetter(await stream.delivery(), topic);
  }, 60_000);

  it("that the topic has no room for wait until it has, and other keys do not", async () => {
    const [topic, dead] = [fresh("poison"), fresh("dead")];
    const admin = kafka.admin();
    await admin.connect();
    onTestFinished(() => admin.disconnect());
    const resize = (bytes: number) => {
      const configEntries = [{ name: "max.message.bytes", value: String(bytes) }];
      const resources = [{ type: ConfigResourceTypes.TOPIC, name: dead, configEntries }];
      return admin.alterConfigs({ validateOnly: false, resources });
    };
    await admin.createTopics({ topics: [{ topic: dead, numPartitions: 1 }] });
    await resize(500);
    const sidecar = await sidecarOn(await openKafkaDriver(port));
    const stream = sidecar.stream();
    await stream.open({ subscription: 1, topic, deadLetterTopic: dead, ordered: true, maxInFlight: 1 });
    await stream.open({ subscription: 2, topic: dead });
    for (const [key, id] of ["k1", "k2", "l1"].map((each) => [each[0]!, each] as const))
      await sidecar.send(topic, { key, event: { id, data: Buffer.alloc(600, id) } });
    await reject(stream);
    const other = await stream.delivery();
    expect(other.event!.id).toBe("l1");
    stream.ack(other);
    await expect
      .poll(() => sidecar.bus.trouble)
      .toMatch(
        new RegExp(
          `"${dead}" does not take a dead letter of "${topic}": .* bytes as a record, more than the topic takes`,
        ),
      );
    await resize(1_048_588);
    const delivered = [await stream.delivery(), await stream.delivery()];
    expect(delivered.map(({ event }) => event!.id).sort()).toEqual(["k1", "k2"]);
    expect(delivered.find(({ event }) => event!.id === "k1")!.event!.extensions).toMatchObject({
      deadletterdetail: "poison",
    });
    expect(sidecar.bus.trouble).toBe("");
  }, 60_000);
});

describeWith("nats", "dead letters on JetStream", () => {
  it("of messages that fill a subject have room in another", async () => {
    const { port } = await sharedNats();
    const [topic, dead] = [fresh("full"), fresh("dead")];
    const driver = await openPubSub({ natsURL: `nats://127.0.0.1:${port}` });
    const sidecar = await sidecarOn(driver);
    const stream = sidecar.stream();
    await stream.open({ subscription: 1, topic, deadLetterTopic: dead });
    await stream.open({ subscription: 2, topic: dead });
    await sidecar.send(topic, { event: { data: large }, raw: true, key: "k" });
    await reject(stream);
    const letter = await stream.delivery();
    expectLetter(letter, topic);
    expect(letter.key).toBe("k");
    stream.ack(letter);
    // Its document is nearly as large as the server takes.
    const event = {
      id: "1",
      type: "café 100%",
      dataContentType: "image/png",
      data: large.subarray(0, 785_700),
    };
    await sidecar.send(topic, { event });
    stream.settle(Outcome.REJECT, [await stream.delivery()], { reason: "x".repeat(1000) });
    const { data: _, ...attributes } = event;
    expect((await stream.delivery()).event).toMatchObject({
      ...attributes,
      source: "app",
      extensions: { deadletterreason: "rejected" },
    });
  }, 60_000);
});
