/** A membership of a component's group, for one topic. */
import type { Call } from "../../blocks/call.ts";
import type { DriverSubscription, Received, Settlement } from "../../blocks/pubsub/driver.ts";
import { fromMessage } from "./event-messages.ts";
import type { Feed, Message } from "./feed.ts";

/** What a member tells the driver. */
export interface MemberOptions {
  readonly feed: Feed;
  readonly raw: boolean;
  /** Leaves the feed; `held`: what the member has not settled. */
  readonly leave: (held: readonly Message[]) => Promise<void>;
}

/** What a received event is known by: another for each attempt. */
interface Receipt {
  readonly message: Message;
}

/** See the head of this file. */
export class Member implements DriverSubscription {
  readonly #options: MemberOptions;
  readonly #held = new Set<Receipt>();
  #closed = false;
  /** Ends the wait of `receive`. */
  #giveUp: () => void = () => {};

  constructor(options: MemberOptions) {
    this.#options = options;
  }

  receive(max: number, { signal }: Call): Promise<readonly Received[]> {
    if (this.#closed || signal.aborted) return Promise.resolve([]);
    const { feed } = this.#options;
    return new Promise((resolve) => {
      const over = (messages: readonly Message[]) => {
        signal.removeEventListener("abort", giveUp);
        this.#giveUp = () => {};
        resolve(messages.map((message) => this.#received(message)));
      };
      const waiter = { max, take: over };
      const giveUp = () => {
        feed.leave(waiter);
        over([]);
      };
      this.#giveUp = giveUp;
      signal.addEventListener("abort", giveUp, { once: true });
      feed.wait(waiter);
    });
  }

  settle(settlements: readonly Settlement[], _call: Call): Promise<void> {
    const { feed } = this.#options;
    const returned: Message[] = [];
    for (const settlement of settlements) {
      const receipt = settlement.receipt as Receipt;
      if (!this.#held.delete(receipt)) continue;
      if (settlement.kind === "done") feed.done(receipt.message);
      else if (settlement.kind === "again") feed.again(receipt.message, settlement.delayMs);
      else returned.push(receipt.message);
    }
    feed.returned(returned);
    return Promise.resolve();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#giveUp();
    const held = [...this.#held].map(({ message }) => message);
    this.#held.clear();
    await this.#options.leave(held);
  }

  #received(message: Message): Received {
    const { feed, raw } = this.#options;
    const receipt: Receipt = { message };
    this.#held.add(receipt);
    const { content, attempt, receivedAtMs } = message;
    return { receipt, attempt, ...fromMessage(content, feed.topic, raw, receivedAtMs) };
  }
}
