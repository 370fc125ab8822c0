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

/** Publishes one at a time, many at once, and many on one stream. `plain` publishes one with the library called `library`. */
export async function* publishing(
  sidecar: Sidecar,
  library: string,
  plain: Caller,
  { sliceMs, rounds }: Effort,
): AsyncGenerator<Figure> {
  const connection = await Connection.open(sidecar.grpcPort);
  const request = publishRequest("pubsub", "bench");
  const through: Caller = () => connection.call(paths.publish, request);
  const stream = new PublishStream(connection);
  const ways = [
    { name: "publish, one at a time", inFlight: 1, through },
    { name: `publish, ${many} in flight, a call each`, inFlight: many, through },
    { name: `publish, ${many} in flight on one stream`, inFlight: many, through: () => stream.publish() },
  ];
  for (const { name, inFlight, through } of ways) {
    const slices: { through: Slice[]; plain: Slice[] } = { through: [], plain: [] };
    await closedLoop(sidecar.pid, sliceMs, inFlight, through);
    for (let round = 0; round < rounds; round++) {
      slices.through.push(await closedLoop(sidecar.pid, sliceMs, inFlight, through));
      slices.plain.push(await closedLoop(sidecar.pid, sliceMs, inFlight, plain));
    }
    const p50 = (all: readonly Slice[]) => median(all.map(({ latencies }) => percentile(latencies, 0.5)));
    const rate = (all: readonly Slice[]) => median(all.map(({ count, seconds }) => count / seconds));
    const cpu = median(slices.through.map((one) => one.cpuMicros));
    yield { what: `${name}: ${library} alone`, value: rate(slices.plain), unit: "/s" };
    yield { what: `${name}: through the sidecar`, value: rate(slices.through), unit: "/s" };
    yield { what: `${name}: CPU of the sidecar`, value: cpu, unit: "us" };
    yield { what: `${name}: ${library} alone, p50`, value: p50(slices.plain), unit: "us" };
    const added = p50(slices.through) - p50(slices.plain);
    if (inFlight === 1)
      yield { what: `${name}: added at p50`, value: added, unit: "us", target: { atMost: 1000 } };
    else {
      const share = (100 * rate(slices.through)) / rate(slices.plain);
      yield { what: `${name}: share of ${library} alone`, value: share, unit: "%", target: { over: 70 } };
    }
  }
  stream.end();
  connection.close();
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
