/** Publishing to Kafka and receiving from it: through the sidecar, and with kafkajs alone. */
import { create, toBinary } from "@bufbuild/protobuf";
import { Kafka, logLevel, type Producer } from "kafkajs";
import { SubscribeRequestSchema } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { startKafka } from "../../test/servers/kafka.ts";
import type { Call } from "../client/call.ts";
import { Connection } from "../client/connection.ts";
import { type Caller, closedLoop, type Slice } from "../measure/load.ts";
import { median, percentile } from "../measure/numbers.ts";
import {
  ackRequest,
  deliveryIds,
  paths,
  payload,
  publishRequest,
  publishStreamRequest,
  settledThrough,
} from "../messages.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import { type Sidecar, startSidecar } from "../servers/sidecar.ts";

/** Publishes under way at once. */
const many = 64;
/** Events of the plain client's requests, and in a message of the streams. */
const batch = 100;
/** Events that are there before anybody reads them. */
const backlog = 300_000;
const partitions = 4;

export const kafka: Scenario = {
  name: "kafka",
  about: "publish to Kafka and receive from it, beside kafkajs alone",
  async *run(effort) {
    await using server = await startKafka({ "num.partitions": String(partitions) });
    const brokers = `127.0.0.1:${server.port}`;
    const yaml = [
      "apiVersion: dapr.io/v1alpha1",
      "kind: Component",
      "metadata: { name: pubsub }",
      "spec:",
      "  type: pubsub.kafka",
      "  version: v1",
      `  metadata: [{ name: brokers, value: "${brokers}" }]`,
      "",
    ].join("\n");
    const sidecar = await startSidecar({ store: { yaml } });
    const client = new Kafka({ brokers: [brokers], logLevel: logLevel.NOTHING });
    const idempotent = { idempotent: true, maxInFlightRequests: 1, createPartitioner: roundRobin };
    const producer = client.producer(idempotent);
    await producer.connect();
    try {
      yield* publishing(sidecar, producer, effort);
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

async function* publishing(sidecar: Sidecar, producer: Producer, effort: Effort): AsyncGenerator<Figure> {
  const connection = await Connection.open(sidecar.grpcPort);
  const request = publishRequest("pubsub", "bench");
  const value = Buffer.from(payload());
  const through: Caller = () => connection.call(paths.publish, request);
  const plain: Caller = () => producer.send({ topic: "bench-plain", acks: -1, messages: [{ value }] });
  const stream = new PublishStream(connection);
  const ways = [
    { name: "publish, one at a time", inFlight: 1, through },
    { name: `publish, ${many} in flight, a call each`, inFlight: many, through },
    { name: `publish, ${many} in flight on one stream`, inFlight: many, through: () => stream.publish() },
  ];
  for (const { name, inFlight, through } of ways) {
    const slices: { through: Slice[]; plain: Slice[] } = { through: [], plain: [] };
    await closedLoop(sidecar.pid, effort.sliceMs, inFlight, through);
    for (let round = 0; round < effort.rounds; round++) {
      slices.through.push(await closedLoop(sidecar.pid, effort.sliceMs, inFlight, through));
      slices.plain.push(await closedLoop(sidecar.pid, effort.sliceMs, inFlight, plain));
    }
    const p50 = (all: readonly Slice[]) => median(all.map(({ latencies }) => percentile(latencies, 0.5)));
    const rate = (all: readonly Slice[]) => median(all.map(({ count, seconds }) => count / seconds));
    const cpu = median(slices.through.map((one) => one.cpuMicros));
    yield { what: `${name}: kafkajs alone`, value: rate(slices.plain), unit: "/s" };
    yield { what: `${name}: through the sidecar`, value: rate(slices.through), unit: "/s" };
    yield { what: `${name}: CPU of the sidecar`, value: cpu, unit: "us" };
    yield { what: `${name}: kafkajs alone, p50`, value: p50(slices.plain), unit: "us" };
    const added = p50(slices.through) - p50(slices.plain);
    if (inFlight === 1)
      yield { what: `${name}: added at p50`, value: added, unit: "us", target: { atMost: 1000 } };
    else {
      const share = (100 * rate(slices.through)) / rate(slices.plain);
      yield { what: `${name}: share of kafkajs alone`, value: share, unit: "%", target: { over: 70 } };
    }
  }
  stream.end();
  connection.close();
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

/** Publishes an event a message on a stream. */
class PublishStream {
  readonly #call: Call;
  readonly #event = publishStreamRequest([payload()]);
  readonly #waiting: (() => void)[] = [];
  #acknowledged = 0;

  constructor(connection: Connection) {
    this.#call = connection.start(paths.publishStream);
    this.#call.onMessage = (message) => {
      for (const through = settledThrough(message); this.#acknowledged < through; this.#acknowledged++) {
        this.#waiting.shift()?.();
      }
    };
    this.#call.send(publishStreamRequest([], { component: "pubsub", topic: "bench" }));
  }

  publish(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#call.send(this.#event);
    });
  }

  end(): void {
    this.#call.end();
  }
}
