/** What events that flow cost a sidecar. */
import type { Flow } from "../client/flow.ts";
import type { Effort } from "../scenario.ts";
import { median } from "./numbers.ts";
import type { Pace } from "./pace.ts";
import { cpuMicros } from "./process-figures.ts";

/** See the head of this file; medians. */
export interface FlowCost {
  /** Processor time of the sidecar for an event, in microseconds. */
  readonly cpuMicros: number;
  /** The same of a bare echo in the same minutes. */
  readonly echoMicros: number;
  /** The quotient of the two. */
  readonly echoes: number;
  /** Events a second. */
  readonly rate: number;
}

/** Measures a flow at full speed, in turns with the echo. */
export async function flowCost(
  pid: number,
  flow: Flow,
  pace: Pace,
  { sliceMs, rounds }: Effort,
): Promise<FlowCost> {
  const costs: number[] = [];
  const echoes: number[] = [];
  const rates: number[] = [];
  // Unrecorded: until it is compiled.
  await flow.run(sliceMs);
  for (let round = 0; round < rounds; round++) {
    echoes.push(await pace.measure());
    const cpuBefore = cpuMicros(pid);
    const startedAt = performance.now();
    const events = await flow.run(sliceMs);
    rates.push(events / ((performance.now() - startedAt) / 1000));
    costs.push((cpuMicros(pid) - cpuBefore) / events);
  }
  return {
    cpuMicros: median(costs),
    echoMicros: median(echoes),
    echoes: median(costs.map((cost, round) => cost / echoes[round]!)),
    rate: median(rates),
  };
}
