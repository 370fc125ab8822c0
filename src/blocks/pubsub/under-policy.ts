/** Publishing under the policies of a component: timeouts, retries of what failed, a circuit breaker. */
import type { Policy } from "../../resilience/policy.ts";
import type { Call } from "../call.ts";
import { type Connection, throughWrapper } from "../connection.ts";
import type { Outgoing, Published, PubSubDriver } from "./driver.ts";

/** The same connection, to a driver that publishes under a policy. */
export function publishingUnderPolicy(
  connection: Connection<PubSubDriver>,
  policyOf: () => Policy | undefined,
): Connection<PubSubDriver> {
  const wrap = (driver: PubSubDriver) => underPolicy(driver, policyOf);
  return throughWrapper(connection, wrap, () => policyOf() !== undefined);
}

function underPolicy(driver: PubSubDriver, policyOf: () => Policy | undefined): PubSubDriver {
  return {
    supports: driver.supports,
    ...(driver.overlaps && { overlaps: true }),
    publish(topic, events, call) {
      const policy = policyOf();
      return policy ? publish(driver, policy, topic, events, call) : driver.publish(topic, events, call);
    },
    open: (spec, call) => driver.open(spec, call),
    ...(driver.pause && { pause: driver.pause.bind(driver) }),
    ping: (call) => driver.ping(call),
    classify: (error) => driver.classify(error),
    close: () => driver.close(),
  };
}

/** Publishes, and once more what has failed. Of several events those that went well are not published again. */
async function publish(
  driver: PubSubDriver,
  policy: Policy,
  topic: string,
  events: readonly Outgoing[],
  call: Call,
): Promise<readonly (Published | Error)[]> {
  const results = new Array<Published | Error>(events.length);
  let open = [...events.keys()];
  const attempt = async (signal: AbortSignal) => {
    const tried = open;
    const answers = await driver.publish(
      topic,
      tried.map((index) => events[index]!),
      { signal },
    );
    for (const [n, index] of tried.entries()) results[index] = answers[n]!;
    open = tried.filter((index) => results[index] instanceof Error);
    if (open.length > 0) throw results[open[0]!];
  };
  const kinds = { protocol: call.protocol ?? "grpc", isFinal: () => false } as const;
  try {
    await policy.run(attempt, call.signal, kinds);
  } catch (error) {
    // All have failed alike, or what failed last has its own error already.
    if (open.some((index) => results[index] === undefined)) throw error;
  }
  return results;
}
