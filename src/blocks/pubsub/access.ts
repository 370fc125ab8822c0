/** Which topics an application may use, by the component's scopes. */
import { fault } from "../../faults.ts";
import type { PubSubSettings } from "./settings.ts";

/** Decides by the fields `allowedTopics`, `protectedTopics` and the two scopes, as Dapr does. */
export class TopicAccess {
  readonly #component: string;
  readonly #appId: string;
  readonly #settings: PubSubSettings;

  constructor(component: string, appId: string, settings: PubSubSettings) {
    this.#component = component;
    this.#appId = appId;
    this.#settings = settings;
  }

  /** Throws TOPIC_FORBIDDEN when the application may not publish to the topic. */
  checkPublish(topic: string): void {
    this.#check(topic, this.#settings.publishingScopes, "publish to");
  }

  /** Throws TOPIC_FORBIDDEN when the application may not subscribe to the topic. */
  checkSubscribe(topic: string): void {
    this.#check(topic, this.#settings.subscriptionScopes, "subscribe to");
  }

  #check(topic: string, scopes: ReadonlyMap<string, readonly string[]> | undefined, verb: string): void {
    const { allowedTopics, protectedTopics } = this.#settings;
    const granted = scopes?.get(this.#appId);
    const allowed =
      (allowedTopics === undefined || allowedTopics.length === 0 || allowedTopics.includes(topic)) &&
      (granted === undefined ? !protectedTopics?.includes(topic) : granted.includes(topic));
    if (allowed) return;
    throw fault(
      "TOPIC_FORBIDDEN",
      `application "${this.#appId}" may not ${verb} topic "${topic}" of "${this.#component}"`,
      {
        metadata: { component: this.#component, topic },
      },
    );
  }
}
