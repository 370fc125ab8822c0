/** What metadata tells of subscriptions. */
import type { Bus } from "./blocks/pubsub/bus.ts";
import type { DeclaredSubscription } from "./blocks/pubsub/options.ts";
import type { PubSubServer } from "./blocks/pubsub/service.ts";
import type { Subscription } from "./blocks/pubsub/subscription.ts";
import type { SubscriptionView } from "./blocks/runtime/service.ts";

/** Every open (component, topic, group), and the declared ones that nobody has opened. */
export async function subscriptionViews(
  buses: Iterable<Bus>,
  declared: Iterable<DeclaredSubscription>,
  streams: PubSubServer["streams"],
): Promise<SubscriptionView[]> {
  const unopened = new Set(declared);
  const members = membersOf(streams);
  const views: Promise<SubscriptionView>[] = [];
  for (const bus of buses) {
    for (const subscription of bus.subscriptions) {
      const { topic, group = "" } = subscription.options;
      const resource = [...unopened].find((each) => each.component === bus.name && each.topic === topic);
      const isDeclared = resource !== undefined && group === bus.defaultGroup;
      if (isDeclared) unopened.delete(resource);
      views.push(viewOf(bus.name, subscription, isDeclared ? resource.name : "", members.get(subscription)));
    }
  }
  return [...(await Promise.all(views)), ...[...unopened].map(viewOfUnopened)];
}

interface Members {
  streams: number;
  maxInFlight: number;
}

function membersOf(streams: PubSubServer["streams"]): Map<Subscription, Members> {
  const all = new Map<Subscription, Members>();
  for (const stream of streams) {
    for (const { subscription, options } of stream.memberships) {
      if (subscription === undefined) continue;
      const members = all.get(subscription) ?? { streams: 0, maxInFlight: 0 };
      members.streams += 1;
      members.maxInFlight += options.maxInFlight;
      all.set(subscription, members);
    }
  }
  return all;
}

async function viewOf(
  component: string,
  subscription: Subscription,
  declared: string,
  { streams, maxInFlight }: Members = { streams: 0, maxInFlight: 0 },
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

function viewOfUnopened({ name, component, topic }: DeclaredSubscription): SubscriptionView {
  return {
    component,
    topic,
    group: "",
    declared: name,
    streams: 0,
    maxInFlight: 0,
    inFlight: 0,
    lag: undefined,
    partitions: [],
    trimmedUnsettled: 0n,
    highestAttempt: 0,
  };
}
