/** Drivers that do some things in another way, as a broker in trouble would. */
import type { DriverSubscription, PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";

/** The driver, but for the changes. */
export function changedDriver(driver: PubSubDriver, changes: Partial<PubSubDriver>): PubSubDriver {
  return {
    supports: driver.supports,
    publish: (topic, events, call) => driver.publish(topic, events, call),
    open: (spec, call) => driver.open(spec, call),
    ...(driver.pause && { pause: driver.pause.bind(driver) }),
    ping: (call) => driver.ping(call),
    classify: (error) => driver.classify(error),
    close: () => driver.close(),
    ...changes,
  };
}

/** The subscription, but for the changes. */
export function changedSubscription(
  subscription: DriverSubscription,
  changes: Partial<DriverSubscription>,
): DriverSubscription {
  return {
    receive: (max, call) => subscription.receive(max, call),
    settle: (settlements, call) => subscription.settle(settlements, call),
    ...(subscription.lag && { lag: subscription.lag.bind(subscription) }),
    close: () => subscription.close(),
    ...changes,
  };
}
