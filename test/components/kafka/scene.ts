/** The short forms that Kafka's tests are written in: drivers that are closed after a test, fresh names, taking and settling. */
import { onTestFinished } from "vitest";
import type { Call } from "../../../src/blocks/call.ts";
import type { DriverSubscription, PubSubDriver, Received } from "../../../src/blocks/pubsub/driver.ts";
import { openKafkaDriver } from "./driver.ts";

/** How a test subscribes; by default a group of its own, from the first event, without order. */
export interface Joining {
  readonly group?: string;
  readonly start?: "earliest" | "latest";
  readonly ordered?: boolean;
}

/** See the head of this file. */
export class KafkaScene {
  readonly #port: () => number;
  readonly #fields: Readonly<Record<string, string>>;
  readonly #patienceMs: number;
  #names = 0;

  /** `port` is asked for when a driver is opened; `fields` are those of each, unless a test says otherwise. */
  constructor(port: () => number, fields: Readonly<Record<string, string>> = {}, patienceMs = 20_000) {
    this.#port = port;
    this.#fields = fields;
    this.#patienceMs = patienceMs;
  }

  /** A name that no other test has, on this broker. */
  fresh = (name: string): string => `${name}-${process.pid}-${Date.now()}-${this.#names++}`;

  call = (withinMs = this.#patienceMs): Call => ({ signal: AbortSignal.timeout(withinMs) });

  driver = async (fields: Readonly<Record<string, string>> = {}): Promise<PubSubDriver> => {
    const opened = await openKafkaDriver(this.#port(), { ...this.#fields, ...fields });
    onTestFinished(() => opened.close());
    return opened;
  };

  join = (
    from: PubSubDriver,
    topic: string,
    { group = this.fresh("group"), start = "earliest", ordered = false }: Joining = {},
  ): Promise<DriverSubscription> =>
    from.open({ topic, group, start: { at: start }, ordered, raw: false }, this.call());

  /** So many events, or those that came in time. */
  take = async (
    subscription: DriverSubscription,
    count: number,
    within = this.call(),
  ): Promise<Received[]> => {
    const taken: Received[] = [];
    while (taken.length < count && !within.signal.aborted) {
      taken.push(...(await subscription.receive(count - taken.length, within)));
    }
    return taken;
  };

  done = (subscription: DriverSubscription, received: readonly Received[]): Promise<void> =>
    subscription.settle(
      received.map(({ receipt }) => ({ receipt, kind: "done" })),
      this.call(),
    );
}
