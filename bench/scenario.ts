/** What a scenario is, and what it reports. */

/** How long to measure. */
export interface Effort {
  /** Of one slice, in milliseconds; scenario and yardstick take turns, a slice each. */
  readonly sliceMs: number;
  /** Slices of each; the medians are reported. */
  readonly rounds: number;
}

/** One thing that was measured. */
export interface Figure {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** What it is to be: "at most" or "over", in the same unit. */
  readonly target?: { readonly atMost: number } | { readonly over: number };
  /** The same of the bare grpc-js echo beside which it was measured; of streams, what a unary echo cost meanwhile. */
  readonly yardstick?: number;
}

/** A program that measures one thing under several aspects. */
export interface Scenario {
  readonly name: string;
  /** One line for the list of scenarios. */
  readonly about: string;
  run(effort: Effort): AsyncIterable<Figure>;
}

/** Whether a figure is what it is to be; undefined when nothing is asked. */
export function meets({ value, target }: Figure): boolean | undefined {
  if (target === undefined) return undefined;
  return "atMost" in target ? value <= target.atMost : value > target.over;
}
