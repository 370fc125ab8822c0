/** What an application says that it wants to receive, in either protocol. */
import * as z from "zod";
import type { TopicSubscription as TopicSubscriptionMessage } from "../../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import { wantsRaw } from "../../../config/subscriptions.ts";
import { anyCase } from "../any-case.ts";
import { bulkOf } from "../bulk.ts";
import type { RouteRule, TopicSubscriptionSpec } from "../topic-subscription.ts";

const text = z
  .union([z.string(), z.number(), z.boolean()])
  .transform(String)
  .nullish()
  .transform((value) => value ?? "");
const count = z
  .number()
  .int()
  .min(0)
  .nullish()
  .transform((value) => value ?? 0);

const entry = anyCase({
  pubsubname: text,
  topic: text,
  route: text,
  routes: anyCase({
    default: text,
    rules: z
      .array(anyCase({ match: text, path: text }))
      .nullish()
      .transform((rules) => rules ?? []),
  }).nullish(),
  metadata: z.record(z.string(), text).nullish(),
  deadlettertopic: text,
  bulksubscribe: anyCase({
    enabled: z.boolean().nullish(),
    maxmessagescount: count,
    maxawaitdurationms: count,
  }).nullish(),
});

/** Reads the answer of `/dapr/subscribe`. Entries without a route are left out. Throws an Error for what is no such list. */
export function subscriptionsOfJson(body: string): TopicSubscriptionSpec[] {
  const parsed = z.array(entry).nullable().safeParse(JSON.parse(body));
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  return (parsed.data ?? []).flatMap((each) => {
    const rules = (each.routes?.rules ?? []).map(({ match, path }) => ({ match, path }));
    const metadata = each.metadata ?? {};
    const defaultPath = each.routes?.default || each.route;
    if (each.pubsubname === "" || each.topic === "") return [];
    if (rules.length === 0 && defaultPath === "") return [];
    return {
      pubsubName: each.pubsubname,
      topic: each.topic,
      metadata,
      raw: wantsRaw(metadata),
      rules,
      defaultPath,
      deadLetterTopic: each.deadlettertopic,
      bulk: bulkOf(
        each.bulksubscribe?.enabled === true,
        each.bulksubscribe?.maxmessagescount,
        each.bulksubscribe?.maxawaitdurationms,
      ),
    };
  });
}

/** Reads an entry of ListTopicSubscriptions. gRPC needs no route: without one the path is empty. */
export function subscriptionOfMessage(message: TopicSubscriptionMessage): TopicSubscriptionSpec {
  const { pubsubName, topic, metadata, routes, deadLetterTopic, bulkSubscribe } = message;
  const rules: RouteRule[] = (routes?.rules ?? []).map(({ match, path }) => ({ match, path }));
  return {
    pubsubName,
    topic,
    metadata,
    raw: wantsRaw(metadata),
    rules,
    defaultPath: routes?.default ?? "",
    deadLetterTopic,
    bulk: bulkOf(
      bulkSubscribe?.enabled === true,
      bulkSubscribe?.maxMessagesCount,
      bulkSubscribe?.maxAwaitDurationMs,
    ),
  };
}
