/** A broker that is a process of its own, behind Dapr's contract for such components. */
import { Code, createClient } from "@connectrpc/connect";
import { PubSub } from "../../../gen/dapr/proto/components/v1/pubsub_pb.ts";
import type { Call, ErrorClass } from "../../blocks/call.ts";
import { ComponentStatus } from "../../blocks/component-status.ts";
import type {
  DriverSubscription,
  Outgoing,
  Published,
  PubSubDriver,
  PubSubSupports,
  SubscriptionSpec,
} from "../../blocks/pubsub/driver.ts";
import type { OpenContext } from "../../component.ts";
import { Attempts } from "./attempts.ts";
import { CallEnded, classify } from "./failures.ts";
import { Feed, type Message } from "./feed.ts";
import { Link } from "./link.ts";
import { Member } from "./member.ts";
import { Publisher } from "./publisher.ts";
import type { PluggableOptions } from "./state.ts";

/** A feed, as soon as it is open, and those who have it. */
interface SharedFeed {
  readonly opened: Promise<Feed>;
  readonly members: Set<Member>;
}

/** See the head of this file. */
export class PluggablePubSub implements PubSubDriver {
  readonly supports: PubSubSupports;
  readonly #link: Link;
  readonly #publisher: Publisher;
  readonly #log: OpenContext["telemetry"]["log"];
  readonly #attempts = new Attempts();
  readonly #feeds = new Map<string, SharedFeed>();
  readonly #closing = new AbortController();

  private constructor(link: Link, features: ReadonlySet<string>, context: OpenContext) {
    this.#link = link;
    this.#publisher = new Publisher(link, context.name);
    this.#log = context.telemetry.log;
    this.supports = {
      delay: false,
      ordering: false,
      wildcards: false,
      positions: false,
      startAtTime: false,
      lag: false,
      durableAttempts: false,
      groups: false,
      oneByOne: features.has("BULK_SUBSCRIBE_IMMEDIATE"),
    };
  }

  /** Connects and initializes. */
  static async open(
    { folder, socket, properties }: PluggableOptions,
    context: OpenContext,
  ): Promise<PluggablePubSub> {
    let features: readonly string[] = [];
    const link = await Link.open(
      {
        folder,
        socket,
        service: PubSub.typeName,
        instance: context.name,
        log: context.telemetry.log,
        initialize: async ({ transport }, calls) => {
          const client = createClient(PubSub, transport);
          await client.init({ metadata: { properties } }, calls);
          ({ features } = await client.features({}, calls));
        },
      },
      context.signal,
    );
    return new PluggablePubSub(link, new Set(features), context);
  }

  publish(topic: string, events: readonly Outgoing[], call: Call): Promise<readonly (Published | Error)[]> {
    return this.#publisher.publish(topic, events, call);
  }

  async open({ topic, raw, metadata = {} }: SubscriptionSpec, { signal }: Call): Promise<DriverSubscription> {
    const key = JSON.stringify([topic, Object.entries(metadata).toSorted()]);
    for (;;) {
      const shared = this.#feeds.get(key) ?? this.#share(key, topic, metadata, signal);
      const feed = await shared.opened.catch((error: unknown) => {
        // Another has asked for it, and waits no longer.
        if (error instanceof CallEnded && !signal.aborted && !this.#closing.signal.aborted) return undefined;
        throw error;
      });
      // Its last member may have left while it was being opened.
      if (!feed || this.#feeds.get(key) !== shared) continue;
      const member: Member = new Member({
        feed,
        raw,
        leave: (held) => this.#leave(key, shared, feed, member, held),
      });
      shared.members.add(member);
      return member;
    }
  }

  async pause(call: Call): Promise<void> {
    try {
      await this.#link.call(({ transport }, calls) => createClient(PubSub, transport).pause({}, calls), call);
    } catch (error) {
      if (!(error instanceof ComponentStatus) || error.code !== Code.Unimplemented) throw error;
    }
  }

  async ping(call: Call): Promise<void> {
    await this.#link.call(
      ({ transport }, calls) => createClient(PubSub, transport).ping({}, calls),
      call,
      true,
    );
  }

  classify(error: unknown): ErrorClass | undefined {
    return classify(error);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const members = [...this.#feeds.values()].flatMap((shared) => [...shared.members]);
    await Promise.all(members.map((member) => member.close()));
    this.#link.close();
  }

  #share(
    key: string,
    topic: string,
    metadata: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): SharedFeed {
    const options = { link: this.#link, topic, metadata, attempts: this.#attempts, log: this.#log };
    const opened = Feed.open(options, AbortSignal.any([signal, this.#closing.signal]));
    const shared = { opened, members: new Set<Member>() };
    this.#feeds.set(key, shared);
    opened.catch(() => {
      if (this.#feeds.get(key) === shared) this.#feeds.delete(key);
    });
    return shared;
  }

  async #leave(
    key: string,
    { members }: SharedFeed,
    feed: Feed,
    member: Member,
    held: readonly Message[],
  ): Promise<void> {
    members.delete(member);
    if (members.size > 0) {
      feed.returned(held);
      return;
    }
    this.#feeds.delete(key);
    await feed.close(held);
  }
}
