/**
 * Messages on their way to streams: many at once, in the order of the calls.
 *
 * What is published one by one in a turn of the event loop leaves in one write, which costs the server less, too.
 * Each message has an id of its own, so that one whose answer was lost can be sent again and is stored once.
 * While the server is away messages wait, and are sent in their order when it is back.
 */
import { createInbox, type Msg, type MsgHdrs } from "@nats-io/transport-node";
import type { Call } from "../../blocks/call.ts";
import type { Published } from "../../blocks/pubsub/driver.ts";
import type { Connection } from "./connection.ts";
import { classify, NatsError } from "./errors.ts";
import type { Streams } from "./streams.ts";

/** How long a message may wait for its answer, when its call does not end before. */
const answerWithinMs = 10_000;
/** Messages without an answer, over all calls. */
const maxUnanswered = 100_000;
/** How long until a message is sent again that found no stream. */
const retryMs = 200;
const sweepMs = 500;

/** A message that is to be stored. */
export interface Sending {
  readonly subject: string;
  readonly payload: Uint8Array | string;
  readonly headers: MsgHdrs;
  /** The subject whose stream it is for: another than `subject` for what waits. */
  readonly topicSubject: string;
  /** Whether it has a position already: what waits has none. */
  readonly positioned: boolean;
}

interface Entry extends Sending {
  readonly batch: Batch;
  readonly index: number;
  readonly giveUpAtMs: number;
}

/** What one call waits for. */
interface Batch {
  readonly results: (Published | Error)[];
  left: number;
  readonly done: (results: readonly (Published | Error)[]) => void;
}

/** See the head of this file. */
export class Publisher {
  readonly #connection: Connection;
  readonly #streams: Streams;
  readonly #inbox = createInbox();
  readonly #idBase: string;
  readonly #entries = new Map<string, Entry>();
  readonly #endFollowing: () => void;
  readonly #endForbidden: () => void;
  /** Those that are to be sent, or sent again, in order. Undefined: whatever comes is sent in this turn. */
  #waiting: Set<string> | undefined;
  /** Those that leave at the end of this turn, in order; none while others wait. */
  #leaving: string[] = [];
  #retry: NodeJS.Timeout | undefined;
  #sweep: NodeJS.Timeout | undefined;
  #next = 0;
  #closed = false;

  constructor(connection: Connection, streams: Streams) {
    this.#connection = connection;
    this.#streams = streams;
    this.#idBase = createInbox("o").slice(2);
    connection.nats.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => {
        if (!error) this.#answered(message);
      },
    });
    this.#endFollowing = connection.onChange((connected) => {
      if (connected) this.#sendAll();
      else {
        this.#leaving = [];
        this.#waiting = new Set(this.#entries.keys());
      }
    });
    this.#endForbidden = connection.onForbidden((subject) => this.#forbid(subject));
    if (!connection.connected) this.#waiting = new Set();
  }

  /** Stores messages in order. One result for each; resolves in any case when the call ends, with errors. */
  send(messages: readonly Sending[], { signal }: Call): Promise<readonly (Published | Error)[]> {
    if (this.#closed) return Promise.reject(new NatsError("unavailable", "the component is closed"));
    if (this.#entries.size + messages.length > maxUnanswered) {
      const text = `${this.#entries.size} events wait for an answer of the NATS server already`;
      return Promise.reject(new NatsError("unavailable", text));
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(signal.reason);
      const batch: Batch = {
        results: new Array(messages.length),
        left: messages.length,
        done: (results) => {
          signal.removeEventListener("abort", onAbort);
          resolve(results);
        },
      };
      signal.addEventListener("abort", onAbort, { once: true });
      const giveUpAtMs = performance.now() + answerWithinMs;
      for (let index = 0; index < messages.length; index++) {
        const id = (this.#next++).toString(36);
        const entry: Entry = { ...messages[index]!, batch, index, giveUpAtMs };
        entry.headers.set("Nats-Msg-Id", `${this.#idBase}.${id}`);
        this.#entries.set(id, entry);
        if (this.#waiting) this.#waiting.add(id);
        else this.#leaving.push(id);
      }
      if (messages.length > 1) this.#leave();
      else if (this.#leaving.length === 1) setImmediate(() => this.#leave());
      this.#sweep ??= setInterval(() => this.#sweepNow(), sweepMs).unref();
    });
  }

  close(): void {
    this.#closed = true;
    this.#endFollowing();
    this.#endForbidden();
    clearInterval(this.#sweep);
    clearTimeout(this.#retry);
    for (const [id, entry] of this.#entries)
      this.#finish(
        id,
        entry,
        new NatsError("unavailable", "the component was closed before the answer came"),
      );
  }

  #leave(): void {
    const ids = this.#leaving;
    this.#leaving = [];
    for (const id of ids) {
      const entry = this.#entries.get(id);
      if (entry) this.#write(id, entry);
    }
  }

  #write(id: string, entry: Entry): void {
    const { subject, payload, headers } = entry;
    try {
      this.#connection.nats.publish(subject, payload, { headers, reply: `${this.#inbox}.${id}` });
    } catch (error) {
      const bytes = typeof payload === "string" ? Buffer.byteLength(payload) : payload.byteLength;
      const max = this.#connection.maxPayloadBytes;
      const tooLarge = error instanceof Error && /payload/.test(error.message);
      const text = tooLarge
        ? `the event takes ${bytes} bytes and its headers; the NATS server takes ${max} (max_payload)`
        : "the connection to the NATS server is closed";
      this.#finish(id, entry, new NatsError(tooLarge ? "refused" : "unavailable", text, { cause: error }));
    }
  }

  #answered(message: Msg): void {
    const id = message.subject.slice(this.#inbox.length + 1);
    const entry = this.#entries.get(id);
    if (!entry) return;
    if (message.data.length === 0 && message.headers?.code === 503) {
      this.#streams.forget(entry.topicSubject);
      this.#sendLater(id);
      return;
    }
    let answer: { seq?: number; error?: { code: number; err_code: number; description: string } };
    try {
      answer = message.json();
    } catch (error) {
      this.#finish(id, entry, new NatsError("unavailable", "what answered is no stream", { cause: error }));
      return;
    }
    if (answer.error) {
      const { code, description } = answer.error;
      const text = `the NATS server does not store the event: ${description}`;
      this.#finish(id, entry, new NatsError(code >= 500 ? "unavailable" : "refused", text));
    } else this.#finish(id, entry, { position: entry.positioned ? String(answer.seq) : "" });
  }

  #finish(id: string, { batch, index }: Entry, result: Published | Error): void {
    this.#entries.delete(id);
    this.#waiting?.delete(id);
    batch.results[index] = result;
    batch.left -= 1;
    if (batch.left === 0) batch.done(batch.results);
    if (this.#entries.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }

  /** Holds back what comes after it, too. */
  #sendLater(id: string): void {
    this.#waiting ??= new Set(this.#leaving.splice(0));
    this.#waiting.add(id);
    this.#retryLater();
  }

  #retryLater(): void {
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      void this.#findStreams();
    }, retryMs).unref();
  }

  async #findStreams(): Promise<void> {
    if (!this.#connection.connected) return;
    const subjects = new Set<string>();
    let again = false;
    for (const id of this.#waiting ?? []) {
      const entry = this.#entries.get(id);
      if (entry) subjects.add(entry.topicSubject);
    }
    for (const subject of subjects) {
      try {
        await this.#streams.of(subject);
      } catch (error) {
        if (classify(error) === "unavailable") again = true;
        else this.#refuse(subject, error as Error);
      }
    }
    if (again) this.#retryLater();
    else this.#sendAll();
  }

  #refuse(topicSubject: string, error: Error): void {
    for (const id of [...(this.#waiting ?? [])]) {
      const entry = this.#entries.get(id);
      if (entry?.topicSubject === topicSubject) this.#finish(id, entry, error);
    }
  }

  #forbid(subject: string): void {
    const error = new NatsError("refused", `the user may not publish to the subject "${subject}"`);
    for (const [id, entry] of this.#entries) if (entry.subject === subject) this.#finish(id, entry, error);
  }

  #sendAll(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    // In the order in which they came, which is not the order in which they were found to be unsent.
    const ids = [...(waiting ?? [])].sort((a, b) => Number.parseInt(a, 36) - Number.parseInt(b, 36));
    for (const id of ids) {
      const entry = this.#entries.get(id);
      if (entry) this.#write(id, entry);
    }
  }

  #sweepNow(): void {
    const now = performance.now();
    for (const [id, entry] of this.#entries) {
      if (entry.giveUpAtMs > now) break;
      const why = this.#connection.connected ? "does not answer" : "is not there";
      this.#finish(id, entry, new NatsError("unavailable", `the NATS server ${why}`));
    }
  }
}
