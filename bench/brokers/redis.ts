/** Publishing to Redis and receiving from it: through the sidecar, and with ioredis alone. */
import { Redis } from "ioredis";
import { startRedis } from "../../test/servers/redis.ts";
import type { Call } from "../client/call.ts";
import { Connection } from "../client/connection.ts";
import { Flow } from "../client/flow.ts";
import { type Caller, closedLoop, type Slice } from "../measure/load.ts";
import { median, percentile } from "../measure/numbers.ts";
import { paths, payload, publishRequest, publishStreamRequest, settledThrough } from "../messages.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import { type Sidecar, startSidecar } from "../servers/sidecar.ts";

/** Publishes under way at once. */
const many = 64;
/** Events in a pipeline, and entries in one answer, of the plain client. */
const batch = 100;

export const redis: Scenario = {
  name: "redis",
  about: "publish to Redis and receive from it, beside ioredis alone",
  async *run(effort) {
    // As Redis is by default: the disk is not what is measured.
    await using server = await startRedis({ appendonly: "no" });
    const yaml = [
      "apiVersion: dapr.io/v1alpha1",
      "kind: Component",
      "metadata: { name: pubsub }",
      "spec:",
      "  type: pubsub.redis",
      "  version: v1",
      `  metadata: [{ name: redisHost, value: "127.0.0.1:${server.port}" }, { name: maxLenApprox, value: "1000000" }]`,
      "",
    ].join("\n");
    const sidecar = await startSidecar({ store: { yaml } });
    const client = new Redis({ host: "127.0.0.1", port: server.port });
    try {
      yield* publishing(sidecar, client, effort);
      yield* streaming(sidecar, client, effort);
    } finally {
      client.disconnect();
      await sidecar.stop();
    }
  },
};

async function* publishing(sidecar: Sidecar, client: Redis, effort: Effort): AsyncGenerator<Figure> {
  const connection = await Connection.open(sidecar.grpcPort);
  const request = publishRequest("pubsub", "bench");
  const data = Buffer.from(payload());
  const through: Caller = () => connection.call(paths.publish, request);
  const plain: Caller = () => client.xadd("bench-plain", "MAXLEN", "~", 1_000_000, "*", "data", data);
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
    yield { what: `${name}: ioredis alone`, value: rate(slices.plain), unit: "/s" };
    yield { what: `${name}: through the sidecar`, value: rate(slices.through), unit: "/s" };
    yield {
      what: `${name}: CPU of the sidecar`,
      value: median(slices.through.map((one) => one.cpuMicros)),
      unit: "us",
    };
    yield { what: `${name}: ioredis alone, p50`, value: p50(slices.plain), unit: "us" };
    const added = p50(slices.through) - p50(slices.plain);
    if (inFlight === 1)
      yield { what: `${name}: added at p50`, value: added, unit: "us", target: { atMost: 1000 } };
    else {
      const share = (100 * rate(slices.through)) / rate(slices.plain);
      yield { what: `${name}: share of ioredis alone`, value: share, unit: "%", target: { over: 70 } };
    }
  }
  stream.end();
  connection.close();
}

async function* streaming(
  sidecar: Sidecar,
  client: Redis,
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
    rates.plain.push(await plainFlow(client, sliceMs));
  }
  flow.close();
  for (const connection of connections) connection.close();
  yield { what: "publish stream to subscribe stream: ioredis alone", value: median(rates.plain), unit: "/s" };
  yield {
    what: "publish stream to subscribe stream: through the sidecar",
    value: median(rates.through),
    unit: "/s",
  };
}

/** Events a second by pipelines of XADD, and XREADGROUP and XACK of as many. */
async function plainFlow(client: Redis, ms: number): Promise<number> {
  const topic = "flow-plain";
  const data = Buffer.from(payload());
  await client.xgroup("CREATE", topic, "group", "$", "MKSTREAM").catch(() => {});
  const startedAt = performance.now();
  let count = 0;
  while (performance.now() - startedAt < ms) {
    const pipeline = client.pipeline();
    for (let i = 0; i < batch; i++) pipeline.xadd(topic, "MAXLEN", "~", 1_000_000, "*", "data", data);
    await pipeline.exec();
    const answer = await client.xreadgroup("GROUP", "group", "me", "COUNT", batch, "STREAMS", topic, ">");
    const ids = (answer?.[0]?.[1] ?? []).map(([id]) => id);
    await client.xack(topic, "group", ...ids);
    count += ids.length;
  }
  return count / ((performance.now() - startedAt) / 1000);
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
    this.#call.send(this.#event);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  end(): void {
    this.#call.end();
  }
}
