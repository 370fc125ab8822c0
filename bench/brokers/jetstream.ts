/** Publishing to NATS JetStream and receiving from it: through the sidecar, and with the official client alone. */
import { rm } from "node:fs/promises";
import { AckPolicy, type JetStreamClient, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { startNats } from "../../test/servers/nats.ts";
import { Connection } from "../client/connection.ts";
import { Flow } from "../client/flow.ts";
import { type Caller, closedLoop, type Slice } from "../measure/load.ts";
import { median, percentile } from "../measure/numbers.ts";
import { paths, payload, publishRequest } from "../messages.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import { makeDirectory, type Sidecar, startSidecar } from "../servers/sidecar.ts";

/** Publishes under way at once. */
const many = 64;
/** Events published together, and in a message of the streams. */
const batch = 100;

export const jetStream: Scenario = {
  name: "jetstream",
  about: "publish to NATS JetStream and receive from it, beside the official client alone",
  async *run(effort) {
    // As NATS is by default: the disk is not what is measured. This block takes the place of the server's own.
    const storage = await makeDirectory();
    await using server = await startNats(`jetstream { store_dir: "${storage}", sync_interval: "2m" }`);
    const yaml = [
      "apiVersion: dapr.io/v1alpha1",
      "kind: Component",
      "metadata: { name: pubsub }",
      "spec:",
      "  type: pubsub.jetstream",
      "  version: v1",
      `  metadata: [{ name: natsURL, value: "${server.url}" }]`,
      "",
    ].join("\n");
    const sidecar = await startSidecar({ store: { yaml } });
    const client = await connect({ servers: server.url });
    try {
      const manager = await jetstreamManager(client);
      await manager.streams.add({ name: "plain", subjects: ["plain.>"] });
      const config = { durable_name: "plain", ack_policy: AckPolicy.Explicit, filter_subject: "plain.flow" };
      await manager.consumers.add("plain", { ...config, max_ack_pending: 100_000 });
      yield* publishing(sidecar, jetstream(client), effort);
      yield* streaming(sidecar, client, effort);
    } finally {
      await client.close();
      await sidecar.stop();
      await server.kill();
      await rm(storage, { recursive: true, force: true });
    }
  },
};

async function* publishing(
  sidecar: Sidecar,
  client: JetStreamClient,
  effort: Effort,
): AsyncGenerator<Figure> {
  const connection = await Connection.open(sidecar.grpcPort);
  const request = publishRequest("pubsub", "bench");
  const data = payload();
  const through: Caller = () => connection.call(paths.publish, request);
  const plain: Caller = () => client.publish("plain.bench", data);
  for (const inFlight of [1, many]) {
    const slices: { through: Slice[]; plain: Slice[] } = { through: [], plain: [] };
    await closedLoop(sidecar.pid, effort.sliceMs, inFlight, through);
    for (let round = 0; round < effort.rounds; round++) {
      slices.through.push(await closedLoop(sidecar.pid, effort.sliceMs, inFlight, through));
      slices.plain.push(await closedLoop(sidecar.pid, effort.sliceMs, inFlight, plain));
    }
    const name = inFlight === 1 ? "publish, one at a time" : `publish, ${inFlight} in flight`;
    const p50 = (all: readonly Slice[]) => median(all.map(({ latencies }) => percentile(latencies, 0.5)));
    const rate = (all: readonly Slice[]) => median(all.map(({ count, seconds }) => count / seconds));
    const cpu = median(slices.through.map((one) => one.cpuMicros));
    yield { what: `${name}: the client alone`, value: rate(slices.plain), unit: "/s" };
    yield { what: `${name}: through the sidecar`, value: rate(slices.through), unit: "/s" };
    yield { what: `${name}: CPU of the sidecar`, value: cpu, unit: "us" };
    yield { what: `${name}: the client alone, p50`, value: p50(slices.plain), unit: "us" };
    const added = p50(slices.through) - p50(slices.plain);
    if (inFlight === 1)
      yield { what: `${name}: added at p50`, value: added, unit: "us", target: { atMost: 1000 } };
    else {
      const share = (100 * rate(slices.through)) / rate(slices.plain);
      yield { what: `${name}: share of the client alone`, value: share, unit: "%", target: { over: 70 } };
    }
  }
  connection.close();
}

async function* streaming(
  sidecar: Sidecar,
  client: NatsConnection,
  { sliceMs, rounds }: Effort,
): AsyncGenerator<Figure> {
  const connections = [
    await Connection.open(sidecar.grpcPort),
    await Connection.open(sidecar.grpcPort),
  ] as const;
  const shape = { topic: "flow", batch, settleEach: false, window: 5000 };
  const flow = new Flow(...connections, { component: "pubsub", data: payload(), ...shape });
  const rates: { through: number[]; plain: number[] } = { through: [], plain: [] };
  await flow.run(sliceMs);
  for (let round = 0; round < rounds; round++) {
    const startedAt = performance.now();
    rates.through.push((await flow.run(sliceMs)) / ((performance.now() - startedAt) / 1000));
    rates.plain.push(await plainFlow(jetstream(client), sliceMs));
  }
  flow.close();
  for (const connection of connections) connection.close();
  const name = "publish stream to subscribe stream";
  yield { what: `${name}: the client alone`, value: median(rates.plain), unit: "/s" };
  yield { what: `${name}: through the sidecar`, value: median(rates.through), unit: "/s" };
}

/** Events a second, published by the hundred, consumed and acknowledged as they come. */
async function plainFlow(client: JetStreamClient, ms: number): Promise<number> {
  const data = payload();
  const consumer = await client.consumers.get("plain", "plain");
  const messages = await consumer.consume({ max_messages: 1000 });
  let [received, published] = [0, 0];
  const startedAt = performance.now();
  const consuming = (async () => {
    for await (const message of messages) {
      message.ack();
      received += 1;
      if (received >= published && performance.now() - startedAt >= ms) break;
    }
  })();
  while (performance.now() - startedAt < ms) {
    published += batch;
    await Promise.all(Array.from({ length: batch }, () => client.publish("plain.flow", data)));
  }
  await consuming;
  return received / ((performance.now() - startedAt) / 1000);
}
