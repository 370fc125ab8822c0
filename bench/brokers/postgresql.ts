/** Publishing to PostgreSQL and receiving from it: through the sidecar, and with pg alone. */
import { Pool } from "pg";
import { startPostgresql } from "../../test/servers/postgresql.ts";
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
/** Events in one statement of the plain client, and in one message of the stream. */
const batch = 100;

export const postgresql: Scenario = {
  name: "postgresql",
  about: "publish to PostgreSQL and receive from it, beside pg alone",
  async *run(effort) {
    // It waits for the disk, as it does by default.
    await using server = await startPostgresql();
    const yaml = [
      "apiVersion: dapr.io/v1alpha1",
      "kind: Component",
      "metadata: { name: pubsub }",
      "spec:",
      "  type: pubsub.postgresql",
      "  version: v1",
      `  metadata: [{ name: connectionString, value: "${server.url}?sslmode=disable" }]`,
      "",
    ].join("\n");
    const sidecar = await startSidecar({ store: { yaml } });
    const pool = new Pool({ connectionString: server.url, max: 10 });
    await pool.query(
      "CREATE TABLE plain (id bigserial PRIMARY KEY, topic text NOT NULL, data bytea NOT NULL)",
    );
    try {
      yield* publishing(sidecar, pool, effort);
      yield* streaming(sidecar, pool, effort);
    } finally {
      await pool.end();
      await sidecar.stop();
    }
  },
};

async function* publishing(sidecar: Sidecar, pool: Pool, effort: Effort): AsyncGenerator<Figure> {
  const connection = await Connection.open(sidecar.grpcPort);
  const request = publishRequest("pubsub", "bench");
  const data = Buffer.from(payload());
  const through: Caller = () => connection.call(paths.publish, request);
  const insert = { name: "insert", text: "INSERT INTO plain (topic, data) VALUES ($1, $2)" };
  const plain: Caller = () => pool.query({ ...insert, values: ["bench", data] });
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
    yield { what: `${name}: pg alone`, value: rate(slices.plain), unit: "/s" };
    yield { what: `${name}: through the sidecar`, value: rate(slices.through), unit: "/s" };
    yield {
      what: `${name}: CPU of the sidecar`,
      value: median(slices.through.map((one) => one.cpuMicros)),
      unit: "us",
    };
    yield { what: `${name}: pg alone, p50`, value: p50(slices.plain), unit: "us" };
    const added = p50(slices.through) - p50(slices.plain);
    if (inFlight === 1)
      yield { what: `${name}: added at p50`, value: added, unit: "us", target: { atMost: 1000 } };
    else {
      const share = (100 * rate(slices.through)) / rate(slices.plain);
      yield { what: `${name}: share of pg alone`, value: share, unit: "%", target: { over: 70 } };
    }
  }
  stream.end();
  connection.close();
}

async function* streaming(sidecar: Sidecar, pool: Pool, { sliceMs, rounds }: Effort): AsyncGenerator<Figure> {
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
    rates.plain.push(await plainFlow(pool, sliceMs));
  }
  flow.close();
  for (const connection of connections) connection.close();
  yield { what: "publish stream to subscribe stream: pg alone", value: median(rates.plain), unit: "/s" };
  yield {
    what: "publish stream to subscribe stream: through the sidecar",
    value: median(rates.through),
    unit: "/s",
  };
}

/** Events a second by inserts of many rows, and by deletes that return as many as they lock: the usual queue in a table. */
async function plainFlow(pool: Pool, ms: number): Promise<number> {
  const data = Array.from({ length: batch }, () => Buffer.from(payload()));
  const insert = {
    name: "many",
    text: "INSERT INTO plain (topic, data) SELECT 'flow', d FROM unnest($1::bytea[]) AS d",
  };
  const take = {
    name: "take",
    text: `DELETE FROM plain WHERE id IN (SELECT id FROM plain WHERE topic = 'flow' ORDER BY id
      LIMIT ${batch} FOR UPDATE SKIP LOCKED) RETURNING data`,
  };
  const startedAt = performance.now();
  let count = 0;
  const publish = async () => {
    while (performance.now() - startedAt < ms) await pool.query({ ...insert, values: [data] });
  };
  const consume = async () => {
    while (performance.now() - startedAt < ms) count += (await pool.query(take)).rowCount ?? 0;
  };
  await Promise.all([publish(), consume()]);
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
