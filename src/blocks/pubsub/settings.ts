/** The fields of a pub/sub component's `spec.metadata` that every broker has, because the block handles them. */
import * as z from "zod";
import { choice, text } from "../../config/fields.ts";

const topics = () => text().transform((list) => splitList(list));
const scopes = () => text().transform((list) => parseScopes(list));

/** The schema of the block's own fields, as Dapr names them. */
export const pubSubSettings = z.object({
  /** The consumer group of subscriptions that name none. Default: the application's id. */
  consumerID: text().optional(),
  /** The same, as Kafka's components call it; it goes before `consumerID`. */
  consumerGroup: text().optional(),
  /** The topic of publishes that name none. */
  publishTopic: text().optional(),
  /** The topic of subscriptions that name none; of several, each has to be named. */
  subscribeTopics: topics().optional(),
  /**
   * What becomes of records that are no CloudEvents where an envelope is expected: they are delivered, with their bytes as
   * the data, or go to the subscription's dead-letter topic if it has one.
   */
  nonCloudEvents: choice("deliver", "deadLetter").default("deliver"),
  /** Topics that may be used at all: `a,b`. Default: every topic. */
  allowedTopics: topics().optional(),
  /** Topics that only applications named in a scope may use: `a,b`. */
  protectedTopics: topics().optional(),
  /** Which application may publish where: `app1=a,b;app2=`. One that is not named may publish anywhere. */
  publishingScopes: scopes().optional(),
  /** Which application may subscribe where, in the same form. */
  subscriptionScopes: scopes().optional(),
});

/** What the schema makes of the metadata. */
export type PubSubSettings = z.output<typeof pubSubSettings>;

function splitList(list: string): string[] {
  return list
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

function parseScopes(list: string): Map<string, readonly string[]> {
  const byApp = new Map<string, readonly string[]>();
  for (const scope of list.split(";")) {
    const [app, topicList] = scope.split("=", 2);
    if (app?.trim()) byApp.set(app.trim(), splitList(topicList ?? ""));
  }
  return byApp;
}
