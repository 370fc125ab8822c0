/** What the scenarios of all brokers measure: through the sidecar, and in turns with the plain client library. */
import type { Call } from "../client/call.ts";
import { Connection } from "../client/connection.ts";
import { Flow } from "../client/flow.ts";
import { Subscriber } from "../client/subscriber.ts";
import { type Caller, closedLoop, type Slice } from "../measure/load.ts";
import { median, percentile } from "../measure/numbers.ts";
import { paths, payload, publishRequest, publishStreamRequest, settledThrough } from "../messages.ts";
import type { Effort, Figure } from "../scenario.ts";
import { type Sidecar, type SidecarSettings, startSidecar } from "../servers/sidecar.ts";
import { startYardstick } from "../servers/yardstick-server.ts";

/** Publishes under way at once. */
const many = 64;
/** Events in a message of the streams, and together in what the plain clients send. */
export const batch = 100;

/** A sidecar whose component `pubsub` is of this type. */
export function startSidecarOn(
  type: string,
  fields: Readonly<Record<string, string>>,
  app?: SidecarSettings["app"],
): Promise<Sidecar> {
  const metadata = Object.entries(fields).map(([name, value]) => `{ name: ${name}, value: "${value}" }`);
  const yaml = [
    "apiVersion: dapr.io/v1alpha1",
    "kind: Component",
    "metadata: { name: pubsub }",
    "spec:",
    `  type: ${type}`,
    "  version: v1",
    `  metadata: [${metadata.join(", ")}]`,
    "",
  ].join("\n");
  return startSidecar({ store: { yaml }, ...(app && { app }) });
}

/**
 * Publishes one at a time, many at once, and many on one stream. `plain` publishes one with the library called `library`.
 * Beside both stands a bare grpc-js server that takes the same messages and does nothing with them.
 */
export async function* publishing(
  sidecar: Sidecar,
  library: string,
  plain: Caller,
  effort: Effort,
): AsyncGenerator<Figure> {
  const yardstick = await startYardstick();
  const connections = [
    await Connection.open(sidecar.grpcPort),
    await Connection.open(yardstick.grpcPort),
  ] as const;
  const request = publishRequest("pubsub", "bench");
  const call = (connection: Connection) => () => connection.call(paths.publish, request);
  const streams: PublishStream[] = [];
  const stream = (connection: Connection, gathers: boolean) => {
    const opened = new PublishStream(connection, gathers);
    streams.push(opened);
    return () => opened.publish();
  };
  const ways = [
    { name: "publish, one at a time", inFlight: 1, callers: connections.map(call) },
    { name: `publish, ${many} in flight, a call each`, inFlight: many, callers: connections.map(call) },
    {
      name: `publish, ${many} in flight on one stream, a message each`,
      inFlight: many,
      callers: connections.map((connection) => stream(connection, false)),
    },
    {
      name: `publish, ${many} in flight on one stream, gathered`,
      inFlight: many,
      callers: connections.map((connection) => stream(connection, true)),
    },
  ];
  try {
    for (const { name, inFlight, callers } of ways) {
      const [through, bare] = callers as [Caller, Caller];
      const measure = (pid: number, caller: Caller) => closedLoop(pid, effort.sliceMs, inFlight, caller);
      const slices: { [side in "through" | "bare" | "plain"]: Slice[] } = {
        through: [],
        bare: [],
        plain: [],
      };
      await measure(sidecar.pid, through);
      await measure(yardstick.pid, bare);
      for (let round = 0; round < effort.rounds; round++) {
        slices.through.push(await measure(sidecar.pid, through));
        slices.plain.push(await measure(process.pid, plain));
        slices.bare.push(await measure(yardstick.pid, bare));
      }
      yield* publishFigures(name, library, inFlight, slices);
    }
  } finally {
    for (const opened of streams) opened.end();
    for (const connection of connections) connection.close();
    await yardstick.stop();
  }
}

/** What one way of publishing has shown, beside the library and the bare server. */
function* publishFigures(
  name: string,
  library: string,
  inFlight: number,
  { through, bare, plain }: { readonly [side in "through" | "bare" | "plain"]: readonly Slice[] },
): Generator<Figure> {
  const of = (all: readonly Slice[], pick: (slice: Slice) => number) => median(all.map(pick));
  const rate = ({ count, seconds }: Slice) => count / seconds;
  const p50 = ({ latencies }: Slice) => percentile(latencies, 0.5);
  const cpu = ({ cpuMicros }: Slice) => cpuMicros;
  const client = ({ clientMicros }: Slice) => clientMicros;
  yield { what: `${name}: ${library} alone`, value: of(plain, rate), unit: "/s" };
  yield { what: `${name}: ${library} alone, its CPU`, value: of(plain, client), unit: "us" };
  yield { what: `${name}: ${library} alone, p50`, value: of(plain, p50), unit: "us" };
  yield {
    what: `${name}: through the sidecar`,
    value: of(through, rate),
    unit: "/s",
    yardstick: of(bare, rate),
  };
  yield {
    what: `${name}: CPU of the sidecar`,
    value: of(through, cpu),
    unit: "us",
    yardstick: of(bare, cpu),
  };
  yield { what: `${name}: CPU of the load client`, value: of(through, client), unit: "us" };
  if (inFlight === 1) {
    const added = of(through, p50) - of(plain, p50);
    yield { what: `${name}: added at p50`, value: added, unit: "us", target: { atMost: 1000 } };
  } else {
    const share = (100 * of(through, rate)) / of(plain, rate);
    yield { what: `${name}: share of ${library} alone`, value: share, unit: "%", target: { over: 70 } };
  }
}

/** Publishes on a stream and receives on another. `plainFlow` gives the events a second of the library alone. */
export async function* streaming(
  sidecar: Sidecar,
  library: string,
  plainFlow: (ms: number) => Promise<number>,
  { sliceMs, rounds }: Effort,
): AsyncGenerator<Figure> {
  const connections = [
    await Connection.open(sidecar.grpcPort),
    await Connection.open(sidecar.grpcPort),
  ] as const;
  const settings = {
    component: "pubsub",
    data: payload(),
    topic: "flow",
    batch,
    settleEach: false,
    window: 5000,
  };
  const flow = new Flow(connections[0], new Subscriber(connections[1], settings), settings);
  const rates: { through: number[]; plain: number[] } = { through: [], plain: [] };
  await flow.run(sliceMs);
  for (let round = 0; round < rounds; round++) {
    const startedAt = performance.now();
    rates.through.push((await flow.run(sliceMs)) / ((performance.now() - startedAt) / 1000));
    rates.plain.push(await plainFlow(sliceMs));
  }
  flow.close();
  for (const connection of connections) connection.close();
  const name = "publish stream to subscribe stream";
  yield { what: `${name}: ${library} alone`, value: median(rates.plain), unit: "/s" };
  yield { what: `${name}: through the sidecar`, value: median(rates.through), unit: "/s" };
}

/** Publishes on a stream: an event a message, or what is published in a turn of the event loop in one. */
class PublishStream {
  readonly #call: Call;
  readonly #gathers: boolean;
  /** Messages by the number of their events. */
  readonly #messages: readonly Uint8Array[];
  readonly #waiting: (() => void)[] = [];
  #gathered = 0;
  #acknowledged = 0;

  constructor(connection: Connection, gathers: boolean) {
    this.#gathers = gathers;
    this.#messages = Array.from({ length: many + 1 }, (_, count) =>
      publishStreamRequest(Array.from({ length: count }, payload)),
    );
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
      if (!this.#gathers) this.#call.send(this.#messages[1]!);
      else if (this.#gathered++ === 0) setImmediate(() => this.#flush());
    });
  }

  end(): void {
    this.#call.end();
  }

  #flush(): void {
    this.#call.send(this.#messages[this.#gathered]!);
    this.#gathered = 0;
  }
}
