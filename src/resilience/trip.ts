/** When a circuit breaker opens: a condition in CEL over what it has counted. */
import { Environment } from "@marcbachmann/cel-js";

/** What a breaker has counted since its state began. */
export interface Counts {
  readonly requests: number;
  readonly totalSuccesses: number;
  readonly totalFailures: number;
  readonly consecutiveSuccesses: number;
  readonly consecutiveFailures: number;
}

/** Nothing yet. */
export const noCounts: Counts = {
  requests: 0,
  totalSuccesses: 0,
  totalFailures: 0,
  consecutiveSuccesses: 0,
  consecutiveFailures: 0,
};

/** Whether it opens. */
export type Trip = (counts: Counts) => boolean;

/** As in Dapr, where nothing is said. */
export const usualTrip: Trip = ({ consecutiveFailures }) => consecutiveFailures > 5;

const names = Object.keys(noCounts) as (keyof Counts)[];
const limits = { maxAstNodes: 200, maxDepth: 32 };

/** Compiles a condition. Throws an Error that says what is wrong with it. */
export function compileTrip(condition: string): Trip {
  const environment = new Environment({ limits });
  for (const name of names) environment.registerVariable(name, "int");
  const parsed = environment.parse(condition);
  const checked = parsed.check();
  if (!checked.valid) throw checked.error;
  if (checked.type !== "bool") throw new Error(`must give a bool, not ${checked.type}`);
  return (counts) => {
    try {
      return parsed(Object.fromEntries(names.map((name) => [name, BigInt(counts[name])]))) === true;
    } catch {
      // Such as a division by what is 0 still.
      return false;
    }
  };
}
