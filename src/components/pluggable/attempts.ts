/** How often events were received that nobody has at the moment, and when they are due: until they come again. */
import { createHash } from "node:crypto";
import type { PullMessagesResponse } from "../../../gen/dapr/proto/components/v1/pubsub_pb.ts";

/** Beyond it the oldest are forgotten, and count from 1. */
const maxRemembered = 10_000;

/** What is known of an event that comes. */
export interface KnownAttempt {
  /** 1 for one that is new. */
  readonly attempt: number;
  /** Milliseconds until it may be given; 0: at once. */
  readonly waitMs: number;
}

const unknown: KnownAttempt = { attempt: 1, waitMs: 0 };

/** See the head of this file. A message's id lives as long as its stream, so events are known by what is in them. */
export class Attempts {
  /** By performance.now(). */
  readonly #known = new Map<string, { readonly attempt: number; readonly dueAtMs: number }>();

  /** Which attempt it will be when it is given next, and when. */
  remember(topic: string, content: PullMessagesResponse, attempt: number, waitMs: number): void {
    if (attempt === 1 && waitMs <= 0) return;
    const [oldest] = this.#known.keys();
    if (this.#known.size >= maxRemembered && oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(identityOf(topic, content), { attempt, dueAtMs: performance.now() + waitMs });
  }

  /** What is known of an event, which is forgotten then. */
  of(topic: string, content: PullMessagesResponse): KnownAttempt {
    if (this.#known.size === 0) return unknown;
    const identity = identityOf(topic, content);
    const known = this.#known.get(identity);
    if (!known) return unknown;
    this.#known.delete(identity);
    return { attempt: known.attempt, waitMs: Math.max(0, Math.ceil(known.dueAtMs - performance.now())) };
  }
}

function identityOf(topic: string, { data }: PullMessagesResponse): string {
  return createHash("sha256").update(topic).update("\0").update(data).digest("base64url");
}
