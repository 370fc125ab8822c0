/** A server and the yardstick, measured in turns: what else the machine does meets both alike. */
import { Connection } from "../client/connection.ts";
import type { Effort, Figure } from "../scenario.ts";
import type { Server } from "../servers/child.ts";
import { startYardstick } from "../servers/yardstick-server.ts";
import { type Caller, closedLoop, openLoop, type Slice } from "./load.ts";
import { median, percentile } from "./numbers.ts";

/** A call, to be made to both. */
export interface Comparison {
  readonly name: string;
  readonly path: string;
  /** The requests, sent one after the other, again and again. */
  readonly requests: readonly Uint8Array[];
  /** What the sidecar may cost, as a multiple of the yardstick's processor time. */
  readonly atMostTimes?: number;
}

/** Calls under way at once, on one connection. */
export const inFlight = 32;
/** Calls a second at the fixed rate. */
const fixedRate = 1000;

/** Measures calls to a server, under full load and at a fixed rate. */
export async function* besideYardstick(
  server: Server,
  comparisons: readonly Comparison[],
  effort: Effort,
): AsyncGenerator<Figure> {
  const yardstick = await startYardstick();
  const ours = await Connection.open(server.grpcPort);
  const theirs = await Connection.open(yardstick.grpcPort);
  try {
    for (const comparison of comparisons) {
      const [a, b] = [callerOf(ours, comparison), callerOf(theirs, comparison)];
      // Unrecorded: until both are compiled.
      await closedLoop(server.pid, effort.sliceMs, inFlight, a);
      await closedLoop(yardstick.pid, effort.sliceMs, inFlight, b);
      const full = await inTurns(
        effort.rounds,
        () => closedLoop(server.pid, effort.sliceMs, inFlight, a),
        () => closedLoop(yardstick.pid, effort.sliceMs, inFlight, b),
      );
      yield* fullFigures(comparison, full);
      const atRate = await inTurns(
        effort.rounds,
        () => openLoop(server.pid, effort.sliceMs, fixedRate, a),
        () => openLoop(yardstick.pid, effort.sliceMs, fixedRate, b),
      );
      yield* atRateFigures(comparison.name, atRate);
    }
  } finally {
    ours.close();
    theirs.close();
    await yardstick.stop();
  }
}

interface Turns {
  readonly ours: readonly Slice[];
  readonly theirs: readonly Slice[];
}

async function inTurns(rounds: number, a: () => Promise<Slice>, b: () => Promise<Slice>): Promise<Turns> {
  const ours: Slice[] = [];
  const theirs: Slice[] = [];
  for (let round = 0; round < rounds; round++) {
    ours.push(await a());
    theirs.push(await b());
  }
  return { ours, theirs };
}

function callerOf(connection: Connection, { path, requests }: Comparison): Caller {
  let next = 0;
  return () => connection.call(path, requests[next++ % requests.length]!);
}

function* fullFigures({ name, atMostTimes }: Comparison, { ours, theirs }: Turns): Generator<Figure> {
  const cpu = median(ours.map((slice) => slice.cpuMicros));
  const yardstick = median(theirs.map((slice) => slice.cpuMicros));
  const target = atMostTimes === undefined ? undefined : { atMost: atMostTimes };
  yield { what: `${name}: CPU a call, full load`, value: cpu, yardstick, unit: "us" };
  const ratios = ours.map((slice, round) => slice.cpuMicros / theirs[round]!.cpuMicros);
  yield { what: `${name}: CPU beside the echo's`, value: median(ratios), unit: "times", target };
  const rate = (slices: readonly Slice[]) => median(slices.map(({ count, seconds }) => count / seconds));
  yield { what: `${name}: calls, full load`, value: rate(ours), yardstick: rate(theirs), unit: "/s" };
}

function* atRateFigures(name: string, { ours, theirs }: Turns): Generator<Figure> {
  const of = (pick: (slice: Slice) => number) => ({
    value: median(ours.map(pick)),
    yardstick: median(theirs.map(pick)),
    unit: "us",
  });
  const at = `at ${fixedRate}/s`;
  yield { what: `${name}: CPU a call, ${at}`, ...of((slice) => slice.cpuMicros) };
  yield { what: `${name}: p50, ${at}`, ...of(({ latencies }) => percentile(latencies, 0.5)) };
  yield { what: `${name}: p99, ${at}`, ...of(({ latencies }) => percentile(latencies, 0.99)) };
}
