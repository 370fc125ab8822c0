import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { TestContext } from "vitest";
import { type Event, EventSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Call } from "../../../src/blocks/call.ts";
import type {
  DriverSubscription,
  Outgoing,
  Published,
  PubSubDriver,
  PubSubSupports,
  Received,
  SubscriptionSpec,
} from "../../../src/blocks/pubsub/driver.ts";

/** Longer than any event takes on any broker, in milliseconds. */
const patienceMs = 10_000;
/** How long nothing must come for a test to believe that nothing will, in milliseconds. */
const quietMs = 150;

/** The drivers under test, and the short forms that the suite is written in. */
export class PubSubFixture {
  #driver: PubSubDriver | undefined;
  #second: PubSubDriver | undefined;
  #count = 0;
  readonly #subscriptions = new Set<DriverSubscription>();
  readonly #run = `${process.pid}-${Math.random().toString(36).slice(2, 8)}`;

  use(driver: PubSubDriver, second: PubSubDriver | undefined): void {
    this.#driver = driver;
    this.#second = second;
  }

  get driver(): PubSubDriver {
    return this.#driver!;
  }

  /** Skips the test when the driver does not claim a capability. */
  needs(context: TestContext, ...capabilities: (keyof PubSubSupports)[]): void {
    const supports: PubSubSupports = { groups: true, ...this.driver.supports };
    for (const capability of capabilities) {
      if (!supports[capability]) context.skip(`supports.${capability} is false`);
    }
  }

  /** Skips the test when the driver claims a capability: for what must then be absent. */
  lacks(context: TestContext, capability: keyof PubSubSupports): void {
    if (this.driver.supports[capability]) context.skip(`supports.${capability} is true`);
  }

  /** The other driver on the same broker; skips the test when there is none. */
  second(context: TestContext): PubSubDriver {
    if (!this.#second) context.skip("no second driver on the same broker");
    return this.#second!;
  }

  /** A fresh topic. */
  topic(name = "topic"): string {
    this.#count += 1;
    return `${name}-${this.#run}-${this.#count}`;
  }

  /** A fresh group; where there is only one, that of the component's settings, which is fresh on every topic. */
  group(): string {
    return this.topic("group");
  }

  /** Fails after `patienceMs`, so that a test tells what did not come. */
  call(): Call {
    return { signal: AbortSignal.timeout(patienceMs) };
  }

  /** By default a group of its own name that starts at the earliest event. */
  spec(topic: string, spec: Partial<SubscriptionSpec> = {}): SubscriptionSpec {
    return { topic, group: this.group(), start: { at: "earliest" }, ordered: false, raw: false, ...spec };
  }

  /** Opens a subscription that is closed after the test. */
  async open(
    topic: string,
    spec: Partial<SubscriptionSpec> = {},
    driver = this.driver,
  ): Promise<DriverSubscription> {
    const subscription = await driver.open(this.spec(topic, spec), this.call());
    this.#subscriptions.add(subscription);
    return subscription;
  }

  async closeSubscription(subscription: DriverSubscription): Promise<void> {
    this.#subscriptions.delete(subscription);
    await subscription.close();
  }

  async closeSubscriptions(): Promise<void> {
    for (const subscription of this.#subscriptions) await this.closeSubscription(subscription);
  }

  /** Publishes texts, or what `outgoing` made, all in one call. Fails when one failed. */
  async publish(
    topic: string,
    events: readonly (string | Outgoing)[],
    driver = this.driver,
  ): Promise<readonly Published[]> {
    const complete = events.map((event) => (typeof event === "string" ? outgoing(event) : event));
    const results = await driver.publish(topic, complete, this.call());
    for (const result of results) if (result instanceof Error) throw result;
    return results as readonly Published[];
  }

  /** Receives exactly `count` events, in as many calls as it takes. */
  async take(subscription: DriverSubscription, count: number): Promise<Received[]> {
    const call = this.call();
    const taken: Received[] = [];
    while (taken.length < count) {
      const asked = Math.min(count - taken.length, 64);
      const received = await subscription.receive(asked, call);
      if (received.length > asked) throw new Error(`asked for ${asked}, received ${received.length}`);
      taken.push(...received);
      if (received.length === 0) {
        throw new Error(`only ${taken.length} of ${count} events came: ${taken.map(textOf).join(", ")}`);
      }
    }
    return taken;
  }

  /** Receives exactly `count` events and says what is in them. */
  async takeTexts(subscription: DriverSubscription, count: number): Promise<string[]> {
    return (await this.take(subscription, count)).map(textOf);
  }

  /** Receives `count` events, settles them as done, and says what was in them. */
  async consume(subscription: DriverSubscription, count: number): Promise<string[]> {
    const received = await this.take(subscription, count);
    await this.done(subscription, received);
    return received.map(textOf);
  }

  async done(subscription: DriverSubscription, received: readonly Received[]): Promise<void> {
    await subscription.settle(
      received.map(({ receipt }) => ({ receipt, kind: "done" })),
      this.call(),
    );
  }

  async again(subscription: DriverSubscription, received: readonly Received[], delayMs = 0): Promise<void> {
    await subscription.settle(
      received.map(({ receipt }) => ({ receipt, kind: "again", delayMs })),
      this.call(),
    );
  }

  async returned(subscription: DriverSubscription, received: readonly Received[]): Promise<void> {
    await subscription.settle(
      received.map(({ receipt }) => ({ receipt, kind: "returned" })),
      this.call(),
    );
  }

  /** Texts of what comes within `quietMs`. Absence cannot be awaited, only watched for a while. */
  async rest(subscription: DriverSubscription): Promise<string[]> {
    const call = { signal: AbortSignal.timeout(quietMs) };
    const texts: string[] = [];
    while (!call.signal.aborted) texts.push(...(await subscription.receive(64, call)).map(textOf));
    return texts;
  }

  async close(): Promise<void> {
    await this.closeSubscriptions();
    await this.#driver?.close();
    await this.#second?.close();
  }
}

/** An event with a text as its data, and options of its publish. */
export function outgoing(text: string, options: Partial<Outgoing> = {}): Outgoing {
  return {
    event: event(text),
    key: "",
    headers: {},
    raw: false,
    deliverAtMs: undefined,
    timeToLiveMs: undefined,
    ...options,
  };
}

/** Events `<prefix>0`, `<prefix>1`, ..., all with one key. */
export function numbered(count: number, prefix = "", key = ""): Outgoing[] {
  return Array.from({ length: count }, (_, index) => outgoing(`${prefix}${index}`, { key }));
}

/** A complete event with a text as its data. */
export function event(text: string): Event {
  return create(EventSchema, {
    id: `id-${text}`,
    source: "conformance",
    type: "dev.outrider.test",
    time: timestampFromMs(1_700_000_000_123),
    dataContentType: "text/plain",
    data: new TextEncoder().encode(text),
  });
}

/** The text that `event` put in. */
export function textOf(received: Pick<Received, "event">): string {
  return new TextDecoder().decode(received.event.data);
}

/** A small seeded generator of numbers from 0 up to 1 (mulberry32): a failure can be repeated. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
