/** Publishes notes of an outbox, and removes those that are through. */
import type { Outgoing } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import type { Call } from "../call.ts";
import type { Connection } from "../connection.ts";
import type { StateDriver } from "./driver.ts";
import type { Note, OutboxTarget } from "./outbox-note.ts";

/**
 * Publishes events to one topic, in order. One answer for each: an Error for one that was not published.
 * Throws when all failed alike.
 */
export type PublishEvents = (
  target: OutboxTarget,
  events: readonly Outgoing[],
  call: Call,
) => Promise<readonly unknown[]>;

/** How long one call to the store or the broker may take, in milliseconds. */
const callWithinMs = 15_000;

/** A call of the outbox itself, which no client waits for. */
export function outboxCall(): Call {
  return { signal: AbortSignal.timeout(callWithinMs) };
}

/** See the head of this file. */
export class NotePublisher {
  readonly #connection: Connection<StateDriver>;
  readonly #publish: PublishEvents;
  readonly #telemetry: Telemetry;
  /** Published, but still in the store because removing them failed. */
  readonly #toRemove = new Set<string>();

  constructor(connection: Connection<StateDriver>, publish: PublishEvents, telemetry: Telemetry) {
    this.#connection = connection;
    this.#publish = publish;
    this.#telemetry = telemetry;
  }

  /** Publishes and removes notes. Returns whether all of it succeeded; what did not is in the log. */
  async settle(notes: readonly Note[]): Promise<boolean> {
    let all = true;
    for (const group of byTarget(notes.filter(({ key }) => !this.#toRemove.has(key)))) {
      const through = await this.#publishGroup(group);
      for (const key of through) this.#toRemove.add(key);
      if (through.length < group.length) all = false;
    }
    const removed = await this.#remove(notes.map(({ key }) => key).filter((key) => this.#toRemove.has(key)));
    return all && removed;
  }

  /** Notes of one target. Returns the keys of those whose events are all published. */
  async #publishGroup(notes: readonly Note[]): Promise<string[]> {
    const { target } = notes[0]!;
    const events = notes.flatMap((note) => note.events);
    let answers: readonly unknown[];
    try {
      answers = await this.#publish(target, events, outboxCall());
    } catch (error) {
      answers = events.map(() => error);
    }
    const through: string[] = [];
    let next = 0;
    let problem: unknown;
    for (const { key, events: own } of notes) {
      const failed = answers.slice(next, next + own.length).find((answer) => answer instanceof Error);
      next += own.length;
      problem ??= failed;
      if (failed === undefined) through.push(key);
    }
    if (problem !== undefined) {
      const transactions = notes.length - through.length;
      const where = { component: this.#connection.component, pubsub: target.component, topic: target.topic };
      this.#telemetry.log.warn(
        { ...where, transactions, err: problem },
        "events of the outbox could not be published; trying again",
      );
    }
    return through;
  }

  async #remove(keys: readonly string[]): Promise<boolean> {
    if (keys.length === 0) return true;
    try {
      const driver = this.#connection.current();
      const writes = keys.map((key) => ({ kind: "delete", key, precondition: undefined }) as const);
      // Where not any keys can be in one transaction, each is removed by itself.
      const batches = driver.beside === undefined ? [writes] : writes.map((write) => [write]);
      await Promise.all(batches.map((batch) => driver.write(batch, outboxCall())));
    } catch (err) {
      const { component } = this.#connection;
      this.#telemetry.log.warn({ component, err }, "notes of the outbox could not be removed; trying again");
      return false;
    }
    for (const key of keys) this.#toRemove.delete(key);
    return true;
  }
}

/** Notes that follow each other and go to the same place, together. */
function byTarget(notes: readonly Note[]): Note[][] {
  const groups: Note[][] = [];
  for (const note of notes) {
    const last = groups.at(-1)?.[0]?.target;
    if (last?.component === note.target.component && last.topic === note.target.topic)
      groups.at(-1)!.push(note);
    else groups.push([note]);
  }
  return groups;
}
