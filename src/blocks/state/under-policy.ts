/** Calls of a state driver under the policies of its component: timeouts, retries, a circuit breaker. */
import type { FailureKinds, Policy } from "../../resilience/policy.ts";
import type { Call, ErrorClass } from "../call.ts";
import { type Connection, throughWrapper } from "../connection.ts";
import type {
  Item,
  ListPage,
  ListRange,
  QueryPage,
  StateDriver,
  StateQuery,
  StateSupports,
  Write,
} from "./driver.ts";
import { EtagMismatch, PositionExpired, ValueChanged } from "./driver.ts";

/** The policy of the moment; undefined: none. */
export type PolicyOf = () => Policy | undefined;

/** The same connection, to a driver under a policy. */
export function stateUnderPolicy(
  connection: Connection<StateDriver>,
  policyOf: PolicyOf,
): Connection<StateDriver> {
  const wrap = (driver: StateDriver) => new DriverUnderPolicy(driver, policyOf);
  return throughWrapper(connection, wrap, () => policyOf() !== undefined);
}

/** What a store says of the items, and what would be the same again. */
const kinds: FailureKinds = {
  isFinal: (error) =>
    error instanceof EtagMismatch || error instanceof PositionExpired || error instanceof ValueChanged,
};

/** Streams are not under it: they have begun when they fail. */
class DriverUnderPolicy implements StateDriver {
  readonly supports: StateSupports;
  readonly maxWrites: number | undefined;
  readonly beside?: NonNullable<StateDriver["beside"]>;
  readonly watch?: NonNullable<StateDriver["watch"]>;
  readonly read?: NonNullable<StateDriver["read"]>;
  readonly writeChunks?: NonNullable<StateDriver["writeChunks"]>;
  readonly list?: (range: ListRange, call: Call) => Promise<ListPage>;
  readonly query?: (query: StateQuery, call: Call) => Promise<QueryPage>;
  readonly writeEach?: (writes: readonly Write[], call: Call) => Promise<void>;
  readonly #driver: StateDriver;
  readonly #policyOf: PolicyOf;

  constructor(driver: StateDriver, policyOf: PolicyOf) {
    this.#driver = driver;
    this.#policyOf = policyOf;
    this.supports = driver.supports;
    this.maxWrites = driver.maxWrites;
    if (driver.beside) this.beside = driver.beside.bind(driver);
    if (driver.watch) this.watch = driver.watch.bind(driver);
    if (driver.read) this.read = driver.read.bind(driver);
    if (driver.writeChunks) this.writeChunks = driver.writeChunks.bind(driver);
    if (driver.list) this.list = (range, call) => this.#run(call, (own) => driver.list!(range, own));
    if (driver.query) this.query = (query, call) => this.#run(call, (own) => driver.query!(query, own));
    if (driver.writeEach)
      this.writeEach = (writes, call) => this.#run(call, (own) => driver.writeEach!(writes, own));
  }

  get(keys: readonly string[], call: Call, maxBytes?: number): Promise<readonly (Item | undefined)[]> {
    return this.#run(call, (own) => this.#driver.get(keys, own, maxBytes));
  }

  write(writes: readonly Write[], call: Call, needsEtags?: boolean): Promise<readonly string[]> {
    return this.#run(call, (own) => this.#driver.write(writes, own, needsEtags));
  }

  ping(call: Call): Promise<void> {
    return this.#driver.ping(call);
  }

  classify(error: unknown): ErrorClass | undefined {
    return this.#driver.classify(error);
  }

  close(): Promise<void> {
    return this.#driver.close();
  }

  #run<T>(call: Call, work: (call: Call) => Promise<T>): Promise<T> {
    const policy = this.#policyOf();
    return policy
      ? policy.run((signal) => work({ signal, hints: call.hints }), call.signal, kinds)
      : work(call);
  }
}
