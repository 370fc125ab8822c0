/** Publishing to Kafka and receiving from it: through the sidecar, and with kafkajs alone. */
import { create, toBinary } from "@bufbuild/protobuf";
import { Kafka, logLevel, type Producer } from "kafkajs";
import { SubscribeRequestSchema } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { startKafka } from "../../test/servers/kafka.ts";
import { Connection } from "../client/connection.ts";
import { median } from "../measure/numbers.ts";
import { ackRequest, deliveryIds, paths, payload } from "../messages.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import type { Sidecar } from "../servers/sidecar.ts";
import { batch, publishing, startSidecarOn } from "./beside-client.ts";

/** Events that are there before anybody reads them. */
const backlog = 300_000;
const partitions = 4;

export const kafka: Scenario = {
  name: "kafka",
  about: "publish to Kafka and receive from it, beside kafkajs alone",
  async *run(effort) {
    await using server = await startKafka({ "num.partitions": String(partitions) });
    const brokers = `127.0.0.1:${server.port}`;
    const sidecar = await startSidecarOn("pubsub.kafka", { brokers });
    const client = new Kafka({ brokers: [brokers], logLevel: logLevel.NOTHING });
    const idempotent = { idempotent: true, maxInFlightRequests: 1, createPartitioner: roundRobin };
    const producer = client.producer(idempotent);
    await producer.connect();
    try {
      const value = Buffer.from(payload());
      const plain = () => producer.send({ topic: "bench-plain", acks: -1, messages: [{ value }] });
      yield* publishing(sidecar, "kafkajs", plain, effort);
      yield* reading(sidecar, client, producer, effort);
    } finally {
      await producer.disconnect();
      await sidecar.stop();
    }
  },
};

function roundRobin() {
  let next = 0;
  return () => next++ % partitions;
}

/** A backlog, read from its first event. */
async function* reading(
  sidecar: Sidecar,
  client: Kafka,
  producer: Producer,
  { rounds }: Effort,
): AsyncGenerator<Figure> {
  const value = JSON.stringify({
    specversion: "1.0",
    id: "1",
    source: "bench",
    type: "dev.outrider.bench",
    time: "2026-11-21T12:00:00Z",
    datacontenttype: "text/plain",
    data: Buffer.from(payload()).toString(),
  });
  const messages = Array.from({ length: 1000 }, () => ({ value }));
  for (let sent = 0; sent < backlog; sent += messages.length)
    await producer.send({ topic: "flow", messages });
  const rates: { through: number[]; plain: number[] } = { through: [], plain: [] };
  for (let round = 0; round < rounds; round++) {
    rates.through.push(await throughSidecar(sidecar, `through-${round}`));
    rates.plain.push(await plainConsumer(client, `plain-${round}`));
  }
  const name = "a backlog to one subscribe stream";
  yield { what: `${name}: kafkajs alone`, value: median(rates.plain), unit: "/s" };
  const through = median(rates.through);
  yield { what: `${name}: through the sidecar`, value: through, unit: "/s", target: { over: 50_000 } };
}

/** Events a second, from the first to the last. */
async function throughSidecar(sidecar: Sidecar, group: string): Promise<number> {
  const connection = await Connection.open(sidecar.grpcPort);
  const call = connection.start(paths.subscribe);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let received = 0;
  let startedAt = 0;
  call.onEnd = () => reject(new Error("the sidecar has ended the stream"));
  call.onMessage = (message) => {
    const ids = deliveryIds(message);
    if (!ids || ids.length === 0) return;
    if (received === 0) startedAt = performance.now();
    received += ids.length;
    call.send(ackRequest(1n, ids.at(-1)!));
    if (received >= backlog) resolve(backlog / ((performance.now() - startedAt) / 1000));
  };
  const open = {
    subscription: 1,
    component: "pubsub",
    topic: "flow",
    group,
    start: { at: { case: "earliest" as const, value: true } },
    maxInFlight: 20 * batch,
    maxBatch: batch,
  };
  const request = create(SubscribeRequestSchema, { message: { case: "open", value: open } });
  call.send(toBinary(SubscribeRequestSchema, request));
  const rate = await promise;
  call.onEnd = () => {};
  call.end();
  connection.close();
  return rate;
}

async function plainConsumer(client: Kafka, groupId: string): Promise<number> {
  const consumer = client.consumer({ groupId });
  await consumer.connect();
  await consumer.subscribe({ topics: ["flow"], fromBeginning: true });
  const { promise, resolve } = Promise.withResolvers<number>();
  let received = 0;
  let startedAt = 0;
  await consumer.run({
    eachBatch: async ({ batch: { messages } }) => {
      if (received === 0) startedAt = performance.now();
      received += messages.length;
      if (received >= backlog) resolve(backlog / ((performance.now() - startedAt) / 1000));
    },
  });
  const rate = await promise;
  await consumer.disconnect();
  return rate;
}
