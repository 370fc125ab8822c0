/** A subscribe stream as commands use it: deliveries out, outcomes in, and a way to leave in peace. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type Delivery,
  type OpenSchema,
  Outcome,
  type SubscribeRequestSchema,
} from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { type SidecarClient, SubscriptionRefused } from "./client.ts";

type Request = MessageInitShape<typeof SubscribeRequestSchema>;
/** A subscription to open; its number is given here. */
export type OpenRequest = Omit<
  Exclude<MessageInitShape<typeof OpenSchema>, { $typeName: string }>,
  "subscription"
>;

/** What a stream tells beside its deliveries. */
export interface EventStreamListener {
  /** A subscription is live. */
  opened?(topic: string): void;
  /** The sidecar will stop. */
  draining?(): void;
  /** The sidecar did not understand; a defect of this program or of that one. */
  complaint?(message: string): void;
}

/** One stream with any number of subscriptions. */
export class EventStream {
  readonly #client: SidecarClient["pubsub"];
  readonly #listener: EventStreamListener;
  readonly #topics: readonly string[];
  readonly #requests: Request[] = [];
  readonly #open = new Set<number>();
  #wake: (() => void) | undefined;
  #ended = false;

  constructor(
    client: SidecarClient["pubsub"],
    opens: readonly OpenRequest[],
    listener: EventStreamListener = {},
  ) {
    this.#client = client;
    this.#listener = listener;
    this.#topics = opens.map(({ topic, declared }) => topic || declared || "");
    for (const [index, open] of opens.entries()) {
      this.#open.add(index + 1);
      this.#send({ message: { case: "open", value: { ...open, subscription: index + 1 } } });
    }
  }

  /**
   * Deliveries, as they come. Ends after `leave`, or when the sidecar drains.
   * Throws what ends the stream otherwise. A caller that returns early abandons what it holds.
   */
  async *deliveries(signal: AbortSignal): AsyncGenerator<readonly Delivery[], void, undefined> {
    const abandon = new AbortController();
    try {
      const options = { signal: AbortSignal.any([signal, abandon.signal]) };
      for await (const { message } of this.#client.subscribe(this.#outgoing(), options)) {
        if (message.case === "deliver") yield message.value.deliveries;
        else if (message.case === "opened") {
          this.#listener.opened?.(this.#topics[message.value.subscription - 1]!);
        } else if (message.case === "closed") {
          const { subscription, code, reason, message: why } = message.value;
          if (code !== 0)
            throw new SubscriptionRefused(
              code,
              `${reason || code}: ${this.#topics[subscription - 1]}: ${why}`,
            );
          this.#open.delete(subscription);
          if (this.#open.size === 0) this.#end();
        } else if (message.case === "drain") this.#listener.draining?.();
        else if (message.case === "complaint") this.#listener.complaint?.(message.value.message);
      }
    } finally {
      this.#end();
      abandon.abort();
    }
  }

  /** Tells the outcome of deliveries, whose ids are in ascending order. */
  settle(deliveries: readonly Delivery[], outcome: "ack" | "retry" | "reject", delayMs?: number): void {
    const ranges: { first: bigint; last: bigint }[] = [];
    for (const { id } of deliveries) {
      const before = ranges.at(-1);
      if (before?.last === id - 1n) before.last = id;
      else ranges.push({ first: id, last: id });
    }
    const outcomes = { ack: Outcome.ACK, retry: Outcome.RETRY, reject: Outcome.REJECT };
    const delay = delayMs === undefined ? {} : { delay: { seconds: 0n, nanos: delayMs * 1e6 } };
    for (let at = 0; at < ranges.length; at += 1000) {
      const value = { deliveries: ranges.slice(at, at + 1000), outcome: outcomes[outcome], ...delay };
      this.#send({ message: { case: "settle", value } });
    }
  }

  /** Asks for no more: what was delivered can still be settled, and the stream ends when all of it is. */
  leave(): void {
    for (const subscription of this.#open)
      this.#send({ message: { case: "close", value: { subscription } } });
  }

  #send(request: Request): void {
    this.#requests.push(request);
    this.#wake?.();
  }

  #end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async *#outgoing(): AsyncGenerator<Request, void, undefined> {
    for (;;) {
      const request = this.#requests.shift();
      if (request) yield request;
      else if (this.#ended) return;
      else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
