/**
 * The dead letters of a subscription on their way. An event is settled when the broker has its letter, and kept until
 * then: a broker that is away is waited for, and one that refuses the letter is asked again now and then, because somebody
 * may allow it what it refuses. Until then the metrics and the health of the component tell of it.
 */
import { backoffMs } from "../../backoff.ts";
import { pause } from "../../pause.ts";
import type { Log } from "../../telemetry/log.ts";
import { deadLetterOf, type GivenUp, shortened } from "./dead-letters.ts";
import type { Outgoing, Received } from "./driver.ts";

/** Thrown when a broker understood a dead letter and said no. Its message is for everybody to read. */
export class DeadLetterRefused extends Error {
  override readonly name = "DeadLetterRefused";
}

/** What it takes to send them. */
export interface DeadLetterPostContext {
  /** Resolves when the broker has it. Throws DeadLetterRefused, or that the broker is away. */
  publish(letter: Outgoing): Promise<void>;
  /** Whether nobody is left who takes events: then what is refused is given back, and the subscription can close. */
  deserted(): boolean;
  /** Aborts when the subscription closes. */
  readonly signal: AbortSignal;
  readonly log: Log;
  /** What log lines tell. */
  readonly fields: Readonly<Record<string, unknown>>;
}

const pauses = { firstMs: 100, lastMs: 5000 };
/** Between attempts at letters that are refused. */
const refusedPauses = { firstMs: 100, lastMs: 60_000 };

/** See the head of this file. */
export class DeadLetterPost {
  readonly #context: DeadLetterPostContext;
  readonly #refused = new Map<Received, { readonly why: string; readonly wake: AbortController }>();
  #waiting = 0;

  constructor(context: DeadLetterPostContext) {
    this.#context = context;
  }

  /** Letters that the broker does not have yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** How many of them the broker refuses, and why it refused the last of these; undefined when there are none. */
  get refused(): { readonly count: number; readonly why: string } | undefined {
    const last = [...this.#refused.values()].at(-1);
    return last && { count: this.#refused.size, why: last.why };
  }

  /** Sends the letter of an event. True: the broker has it. False: nobody waits for that, and the event is to be given back. */
  async send(received: Received, givenUp: GivenUp): Promise<boolean> {
    const { deserted, fields, log, signal } = this.#context;
    const letter = deadLetterOf(received, givenUp);
    this.#waiting += 1;
    try {
      for (let failures = 1; ; failures++) {
        const error = await this.#attempt(letter);
        if (error === undefined) return true;
        if (signal.aborted) return false;
        const refused = error instanceof DeadLetterRefused;
        const wake = new AbortController();
        this.#refused.delete(received);
        if (refused) {
          if (deserted()) return false;
          this.#refused.set(received, { why: error.message, wake });
        }
        const { id, source } = received.event;
        const message = refused
          ? "the broker refuses a dead letter; its event is kept, and tried again"
          : "publishing a dead letter failed; trying again";
        // Whoever has read it once need not read it for hours.
        log[failures === 1 ? "warn" : "debug"]({ ...fields, id, source, failures, err: error }, message);
        const pauseMs = backoffMs(failures, refused ? refusedPauses : pauses);
        const over = AbortSignal.any([signal, wake.signal]);
        await pause(pauseMs, over, { ref: false });
        if (over.aborted) return false;
      }
    } finally {
      this.#waiting -= 1;
      this.#refused.delete(received);
    }
  }

  /** Nobody is left who takes events: what is refused is for whoever comes next. */
  giveBackRefused(): void {
    for (const { wake } of this.#refused.values()) wake.abort();
  }

  /** What went wrong; undefined when the broker has it, if only in the form that takes least room: the event had room. */
  async #attempt(letter: Outgoing): Promise<unknown> {
    const { publish } = this.#context;
    try {
      await publish(letter);
      return undefined;
    } catch (error) {
      if (!(error instanceof DeadLetterRefused)) return error;
    }
    try {
      await publish(shortened(letter));
      return undefined;
    } catch (error) {
      return error;
    }
  }
}
