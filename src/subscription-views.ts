/** What metadata tells of subscriptions. */
import type { Bus } from "./blocks/pubsub/bus.ts";
import type { DeclaredSubscription } from "./blocks/pubsub/options.ts";
import type { Session } from "./blocks/pubsub/session.ts";
import type { Subscription } from "./blocks/pubsub/subscription.ts";
import type { SubscriptionView } from "./blocks/runtime/sidecar-view.ts";

/** Every open (component, topic, group), those that wait for their component, and the declared ones that nobody has opened. */
export async function subscriptionViews(
  buses: Iterable<Bus>,
  declared: Iterable<DeclaredSubscription>,
  streams: Iterable<Session>,
): Promise<SubscriptionView[]> {
  const unopened = new Set(declared);
  const declaredBy = (component: string, topic: string, isDefault: boolean): string => {
    const resource = [...unopened].find((each) => each.component === component && each.topic === topic);
    if (resource === undefined || !isDefault) return "";
    unopened.delete(resource);
    return resource.name;
  };
  const members = membersOf(streams);
  const views: Promise<SubscriptionView>[] = [];
  const defaultGroups = new Map<string, string>();
  for (const bus of buses) {
    defaultGroups.set(bus.name, bus.defaultGroup);
    for (const subscription of bus.subscriptions) {
      const { topic, group = "" } = subscription.options;
      const name = declaredBy(bus.name, topic, group === bus.defaultGroup);
      const of = { component: bus.name, topic, group };
      // A broadcast is each stream's own.
      const coming = group === "" ? undefined : take(members.waiting, keyOf(of));
      views.push(viewOf(bus.name, subscription, name, sum(members.joined.get(subscription), coming)));
    }
  }
  const waiting = [...members.waiting.values()].map((of): SubscriptionView => {
    const isDefault = of.group === (defaultGroups.get(of.component) ?? of.group);
    return { ...nothing, ...of, declared: declaredBy(of.component, of.topic, isDefault) };
  });
  const unused = [...unopened].map(
    ({ name, component, topic }): SubscriptionView => ({
      ...nothing,
      component,
      topic,
      group: "",
      declared: name,
    }),
  );
  return [...(await Promise.all(views)), ...waiting, ...unused];
}

interface Members {
  readonly streams: number;
  readonly maxInFlight: number;
}

/** What a subscription is of. */
type Of = Pick<SubscriptionView, "component" | "topic" | "group">;

const nobody: Members = { streams: 0, maxInFlight: 0 };
const nothing = {
  ...nobody,
  inFlight: 0,
  lag: undefined,
  partitions: [],
  trimmedUnsettled: 0n,
  highestAttempt: 0,
};

function keyOf({ component, topic, group }: Of): string {
  return JSON.stringify([component, topic, group]);
}

function sum(one: Members = nobody, other: Members = nobody): Members {
  return { streams: one.streams + other.streams, maxInFlight: one.maxInFlight + other.maxInFlight };
}

function take<Key, Value>(map: Map<Key, Value>, key: Key): Value | undefined {
  const value = map.get(key);
  map.delete(key);
  return value;
}

/** The streams of each subscription, and of those that there are not yet. */
function membersOf(streams: Iterable<Session>) {
  const joined = new Map<Subscription, Members>();
  const waiting = new Map<string, Of & Members>();
  for (const stream of streams) {
    for (const { subscription, options, wanted, leaving } of stream.memberships) {
      const one = { streams: 1, maxInFlight: options.maxInFlight };
      if (subscription) joined.set(subscription, sum(joined.get(subscription), one));
      else if (!leaving) {
        const { component, topic, group } = wanted;
        const of = { component, topic, group };
        waiting.set(keyOf(of), { ...of, ...sum(waiting.get(keyOf(of)), one) });
      }
    }
  }
  return { joined, waiting };
}

async function viewOf(
  component: string,
  subscription: Subscription,
  declared: string,
  { streams, maxInFlight }: Members,
): Promise<SubscriptionView> {
  const { topic, group = "" } = subscription.options;
  const lag = await subscription.lag();
  return {
    component,
    topic,
    group,
    declared,
    streams,
    maxInFlight,
    inFlight: subscription.held,
    lag: lag && BigInt(lag.events),
    partitions: (lag?.partitions ?? []).map(({ events, ...where }) => ({ ...where, lag: BigInt(events) })),
    trimmedUnsettled: BigInt(lag?.trimmedUnsettled ?? 0),
    highestAttempt: 0,
  };
}
