/** Calls of Dapr's API and of the native one to the same sidecar, in turns, and the bare echo in the same minutes. */
import type { Effort, Figure } from "../scenario.ts";
import { inFlight } from "./beside-yardstick.ts";
import { type Caller, closedLoop } from "./load.ts";
import { median } from "./numbers.ts";
import type { Pace } from "./pace.ts";

/** Two calls that do the same. */
export interface Pair {
  readonly name: string;
  readonly native: Caller;
  readonly dapr: Caller;
}

/** What a call of Dapr's API may cost, as a multiple of the native call's processor time. */
const atMostTimes = 1.1;

/** Measures both under full load. */
export async function* besideNative(
  pid: number,
  pairs: readonly Pair[],
  pace: Pace,
  { sliceMs, rounds }: Effort,
): AsyncGenerator<Figure> {
  for (const { name, native, dapr } of pairs) {
    const costs = { native: [] as number[], dapr: [] as number[], echo: [] as number[] };
    const measure = async (call: Caller) => (await closedLoop(pid, sliceMs, inFlight, call)).cpuMicros;
    // Unrecorded: until both are compiled.
    await measure(native);
    await measure(dapr);
    for (let round = 0; round < rounds; round++) {
      costs.native.push(await measure(native));
      costs.dapr.push(await measure(dapr));
      costs.echo.push(await pace.measure());
    }
    const yardstick = median(costs.echo);
    yield { what: `${name}, native: CPU a call`, value: median(costs.native), yardstick, unit: "us" };
    yield { what: `${name}, Dapr's API: CPU a call`, value: median(costs.dapr), yardstick, unit: "us" };
    const ratio = median(costs.dapr.map((cost, round) => cost / costs.native[round]!));
    const target = { atMost: atMostTimes };
    yield { what: `${name}: CPU beside the native call's`, value: ratio, unit: "times", target };
  }
}
