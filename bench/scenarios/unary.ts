/** Calls with one message up and one down: state and publish. */
import { Connection } from "../client/connection.ts";
import { besideYardstick, type Comparison } from "../measure/beside-yardstick.ts";
import { memoryMb } from "../measure/process-figures.ts";
import { getRequest, paths, publishRequest, setRequest } from "../messages.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import { type Store, startSidecar } from "../servers/sidecar.ts";

/** Keys that are read and written in turn. */
const keys = 1000;
/** What a unary call may cost beside the bare echo. */
const atMostTimes = 1.5;

const numbers = Array.from({ length: keys }, (_, number) => number);
const sets = numbers.map((number) => setRequest("state", number));
const get: Comparison = {
  name: "state get",
  path: paths.get,
  requests: numbers.map((number) => getRequest("state", number)),
};
const set: Comparison = { name: "state set", path: paths.set, requests: sets };
const publish: Comparison = {
  name: "publish",
  path: paths.publish,
  requests: [publishRequest("pubsub", "bench")],
};

export const stateMemory: Scenario = {
  name: "state-memory",
  about: "state get and set, in memory, beside the bare echo",
  run: (effort) => unary("memory", [{ ...get, atMostTimes }, set], effort),
};

export const stateSqlite: Scenario = {
  name: "state-sqlite",
  about: "state get and set, on SQLite, beside the bare echo",
  run: (effort) => unary("sqlite", [get, set], effort),
};

export const publishMemory: Scenario = {
  name: "publish-memory",
  about: "publish, in memory, beside the bare echo",
  run: (effort) => unary("memory", [{ ...publish, atMostTimes }], effort),
};

async function* unary(
  store: Store,
  comparisons: readonly Comparison[],
  effort: Effort,
): AsyncGenerator<Figure> {
  const sidecar = await startSidecar({ store });
  try {
    const connection = await Connection.open(sidecar.grpcPort);
    await Promise.all(sets.map((request) => connection.call(paths.set, request)));
    connection.close();
    yield* besideYardstick(sidecar, comparisons, effort);
    yield { what: "peak memory", value: memoryMb(sidecar.pid).peak, unit: "MB" };
  } finally {
    await sidecar.stop();
  }
}
