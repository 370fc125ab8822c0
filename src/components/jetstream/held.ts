/** What members of groups hold: messages that are not settled, and what is known of how often they were given. */
import type { Msg } from "@nats-io/transport-node";
import { type Position, positionOf } from "./events.ts";

/** Messages whose uncounted deliveries are remembered. */
const maxRemembered = 100_000;

/** A message that a member has. */
export interface Held {
  readonly message: Msg;
  /** As the message itself says it. */
  readonly position: Position;
  readonly sequence: number;
  /** The consumer's count of deliveries, of all messages, when it first came. */
  readonly delivery: number;
  /** Where the latest delivery of it is acknowledged. */
  reply: string;
  deliveries: number;
  /** The channel's count of connections when it last came; -1 when it may be settled without our knowing. */
  epoch: number;
  /** Its settlement is on the way: it is not kept alive any more. When it is given back it may come again before the answer. */
  settling: "done" | "back" | undefined;
}

/** Makes what is held of a message; undefined when it is no delivery. */
export function heldOf(message: Msg): Held | undefined {
  const reply = message.reply;
  const position = positionOf(reply);
  if (!position) return undefined;
  const { sequence, deliveries, delivery } = position;
  return { message, position, sequence, delivery, reply: reply!, deliveries, epoch: 0, settling: undefined };
}

/**
 * Deliveries that were no attempts, of one driver: the server counts what was given back untouched, too.
 * Sidecars do not tell each other.
 */
export class Uncounted {
  readonly #counts = new Map<string, number>();

  add(consumer: string, sequence: number): void {
    this.#set(consumer, sequence, (this.#counts.get(`${consumer}\n${sequence}`) ?? 0) + 1);
  }

  /** None of the deliveries before the latest was an attempt. */
  addAllBefore(consumer: string, { sequence, deliveries }: Held): void {
    if (deliveries > 1) this.#set(consumer, sequence, deliveries - 1);
  }

  forget(consumer: string, sequence: number): void {
    if (this.#counts.size > 0) this.#counts.delete(`${consumer}\n${sequence}`);
  }

  #set(consumer: string, sequence: number, count: number): void {
    const key = `${consumer}\n${sequence}`;
    this.#counts.delete(key);
    this.#counts.set(key, count);
    if (this.#counts.size <= maxRemembered) return;
    const [oldest] = this.#counts.keys();
    this.#counts.delete(oldest!);
  }

  /** Which attempt a delivery is: 1 or more. */
  attempt(consumer: string, { sequence, deliveries }: Held): number {
    if (this.#counts.size === 0) return deliveries;
    return Math.max(1, deliveries - (this.#counts.get(`${consumer}\n${sequence}`) ?? 0));
  }
}
