/** Publishing to SQLite, where an event is on the disk before it is acknowledged. */
import { rm } from "node:fs/promises";
import type { Call } from "../client/call.ts";
import { Connection } from "../client/connection.ts";
import { diskWriteMicros } from "../measure/disk.ts";
import { type Caller, closedLoop, type Slice } from "../measure/load.ts";
import { median, percentile } from "../measure/numbers.ts";
import { Pace } from "../measure/pace.ts";
import { memoryMb } from "../measure/process-figures.ts";
import { paths, payload, publishRequest, publishStreamRequest, settledThrough } from "../messages.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import { makeDirectory, type Sidecar, startSidecar } from "../servers/sidecar.ts";

const publishers = 64;
const topic = "bench";

export const publishSqlite: Scenario = {
  name: "publish-sqlite",
  about: "publish on SQLite: 64 publishers, and one alone",
  async *run(effort) {
    const dataDirectory = await makeDirectory();
    try {
      const sidecar = await startSidecar({ store: "sqlite", dataDirectory });
      const pace = await Pace.start();
      try {
        yield* measure(sidecar, dataDirectory, pace, effort);
      } finally {
        await pace.stop();
        await sidecar.stop();
      }
    } finally {
      await rm(dataDirectory, { recursive: true, force: true });
    }
  },
};

async function* measure(
  sidecar: Sidecar,
  dataDirectory: string,
  pace: Pace,
  effort: Effort,
): AsyncGenerator<Figure> {
  const connection = await Connection.open(sidecar.grpcPort);
  const request = publishRequest("pubsub", topic);
  const unary = () => connection.call(paths.publish, request);
  const slices = async (count: number, call: Caller): Promise<Slice[]> => {
    await closedLoop(sidecar.pid, effort.sliceMs, count, call);
    const all: Slice[] = [];
    for (let i = 0; i < effort.rounds; i++) {
      await pace.measure();
      all.push(await closedLoop(sidecar.pid, effort.sliceMs, count, call));
    }
    return all;
  };
  yield* manyFigures("64 publishers, a call each event", await slices(publishers, unary), pace);

  const streams = Array.from({ length: publishers }, () => new OneByOne(connection));
  let next = 0;
  const streamed = await slices(publishers, () => streams[next++ % publishers]!.publish());
  yield* manyFigures("64 publish streams, an event at a time", streamed, pace);
  for (const stream of streams) stream.end();

  const disk = [diskWriteMicros(dataDirectory)];
  const alone = await slices(1, unary);
  disk.push(diskWriteMicros(dataDirectory));
  const of = (share: number) => median(alone.map(({ latencies }) => percentile(latencies, share)));
  yield { what: "the disk: write of 4 KiB and fdatasync, p50", value: median(disk), unit: "us" };
  yield { what: "one publisher alone: p50", value: of(0.5), unit: "us" };
  yield { what: "one publisher alone: p99", value: of(0.99), unit: "us" };
  yield { what: "peak memory", value: memoryMb(sidecar.pid).peak, unit: "MB" };
  connection.close();
}

function* manyFigures(name: string, slices: readonly Slice[], pace: Pace): Generator<Figure> {
  const rate = median(slices.map(({ count, seconds }) => count / seconds));
  const cpu = median(slices.map((slice) => slice.cpuMicros));
  const p99 = median(slices.map(({ latencies }) => percentile(latencies, 0.99)));
  yield { what: `${name}: events`, value: rate, unit: "/s", target: { over: 15_000 } };
  yield { what: `${name}: CPU an event, both threads`, value: cpu, yardstick: pace.take(), unit: "us" };
  yield { what: `${name}: p99`, value: p99, unit: "us" };
}

/** A publisher with a stream that waits for each acknowledgement. */
class OneByOne {
  readonly #call: Call;
  readonly #event = publishStreamRequest([payload()]);
  #acknowledged = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(connection: Connection) {
    this.#call = connection.start(paths.publishStream);
    this.#call.onMessage = (message) => {
      for (const through = settledThrough(message); this.#acknowledged < through; this.#acknowledged++) {
        this.#waiting.shift()?.();
      }
    };
    this.#call.send(publishStreamRequest([], { component: "pubsub", topic }));
  }

  publish(): Promise<void> {
    this.#call.send(this.#event);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  end(): void {
    this.#call.end();
  }
}
