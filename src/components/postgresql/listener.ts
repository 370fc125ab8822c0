/**
 * The one connection that has a session: it hears notifications, and holds a lock that tells others that
 * this process lives. Everything else works through a pooler in transaction mode.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "pg";
import { backoffMs, scattered } from "../../backoff.ts";
import { endedWithin } from "../../ended-within.ts";
import { pause } from "../../pause.ts";
import type { Log } from "../../telemetry/log.ts";
import { Clients } from "./clients.ts";
import type { Database } from "./database.ts";

const retries = { firstMs: 100, lastMs: 5000 };
/** How long the notification to oneself may take. Behind a pooler in transaction mode it never comes. */
const echoMs = 2000;
/** Until it is tried again whether notifications arrive. */
const deafRetryMs = 60_000;
/** Between two signs of life on a quiet connection. */
const pingEveryMs = 10_000;
const pingWithinMs = 5000;
/** How long closing waits for a server that does not answer. */
const closeWithinMs = 2000;

/** A lock that the session is to hold, so that others see when it ends. */
export interface SessionLock {
  /** The two numbers of an advisory lock; undefined: none yet. */
  numbers(): readonly [number, number] | undefined;
  /** The lock is held from now on. Waited for before anything relies on it. */
  onLocked(): Promise<void>;
}

/** What a listener tells. */
export interface ListenerEvents {
  /** A notification came. */
  onNews(payload: string): void;
  /** Notifications arrive from now on, or do not any more: some may have been missed. */
  onChange(hears: boolean): void;
}

/** See the head of this file. */
export class Listener {
  readonly #database: Database;
  readonly #channel: string;
  readonly #events: ListenerEvents;
  readonly #log: Log;
  readonly #lock: SessionLock | undefined;
  readonly #tried = Promise.withResolvers<void>();
  readonly #closing = new AbortController();
  #client: Client | undefined;
  #clients: Clients | undefined;
  #hears = false;
  #locked = false;
  #told = false;
  #running: Promise<void> | undefined;

  /** `lock`: held while connected. */
  constructor(database: Database, channel: string, events: ListenerEvents, log: Log, lock?: SessionLock) {
    this.#database = database;
    this.#channel = channel;
    this.#events = events;
    this.#log = log;
    this.#lock = lock;
  }

  /** Begins to connect, and keeps connecting. Returns at once. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Resolves when it is known whether the first connection is good, or after a time. */
  async tried(withinMs: number): Promise<void> {
    await endedWithin(this.#tried.promise, withinMs);
  }

  /** Whether notifications arrive. */
  get hears(): boolean {
    return this.#hears;
  }

  /** Whether the session lock is held. */
  get locked(): boolean {
    return this.#locked;
  }

  /** Ends the connection; unless it closes, it begins anew. */
  reconnect(): void {
    void this.#client?.end().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.reconnect();
    await endedWithin(Promise.resolve(this.#running), closeWithinMs);
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    let failures = 0;
    while (!signal.aborted) {
      let retryMs = backoffMs(failures + 1, retries);
      try {
        const heard = await this.#session(signal);
        failures = heard ? 0 : failures + 1;
        if (!heard) retryMs = deafRetryMs;
      } catch (err) {
        failures += 1;
        if (!signal.aborted) this.#log.debug({ err }, "listening for notifications failed; trying again");
      }
      this.#change(false);
      this.#tried.resolve();
      await pause(scattered(retryMs), signal, { ref: false });
    }
  }

  /** One connection's life. False: it does not hear. */
  async #session(signal: AbortSignal): Promise<boolean> {
    this.#clients ??= await Clients.make(this.#database.settings.listen, "outrider listener");
    const client = await this.#clients.connect(signal);
    this.#client = client;
    const ended = new Promise<void>((resolve) => client.once("end", () => resolve()));
    const echo = Promise.withResolvers<boolean>();
    const nonce = `echo ${randomUUID()}`;
    client.on("notification", ({ payload = "" }) => {
      if (payload === nonce) echo.resolve(true);
      else if (!payload.startsWith("echo ")) this.#events.onNews(payload);
    });
    try {
      await client.query(`LISTEN "${this.#channel}"`);
      await this.#database.query("SELECT pg_notify($1, $2)", [this.#channel, nonce], { signal });
      const late = delay(echoMs, false, { signal, ref: false }).catch(() => false);
      const hears = await Promise.race([echo.promise, late, ended.then(() => false)]);
      signal.throwIfAborted();
      if (!hears) {
        if (!this.#told)
          this.#log.warn(
            { channel: this.#channel, pollMs: this.#database.settings.pollMs },
            "PostgreSQL's notifications do not arrive, as behind a pooler; looking for news at an interval instead (listenConnectionString can name the server itself)",
          );
        this.#told = true;
        return false;
      }
      const { listen, endpoint } = this.#database.settings;
      if (listen === endpoint) this.#database.knownToBeDirect();
      await this.#takeLock(client);
      this.#change(true);
      this.#tried.resolve();
      await this.#untilItEnds(client, ended, signal);
      return true;
    } finally {
      this.#client = undefined;
      this.#locked = false;
      // Not waited for: its network may be gone.
      void client.end().catch(() => undefined);
    }
  }

  async #takeLock(client: Client): Promise<void> {
    const numbers = this.#lock?.numbers();
    if (!numbers) return;
    type Row = { got: boolean };
    const { rows } = await client.query<Row>("SELECT pg_try_advisory_lock($1, $2) AS got", [...numbers]);
    if (rows[0]?.got !== true) return;
    this.#locked = true;
    await this.#lock!.onLocked();
  }

  /** Waits for the end of the connection, and finds out when it is dead without one. */
  async #untilItEnds(client: Client, ended: Promise<void>, signal: AbortSignal): Promise<void> {
    let over = false;
    void ended.then(() => {
      over = true;
    });
    const stopped = new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => resolve(), { once: true }),
    );
    while (!signal.aborted) {
      const quiet = new AbortController();
      await Promise.race([pause(pingEveryMs, quiet.signal, { ref: false }), ended, stopped]);
      quiet.abort();
      if (over || signal.aborted) return;
      const answered = client.query("SELECT 1").then(() => true);
      const late = delay(pingWithinMs, false, { ref: false });
      if (!(await Promise.race([answered.catch(() => false), late]))) return;
    }
  }

  #change(hears: boolean): void {
    if (hears === this.#hears) return;
    this.#hears = hears;
    this.#events.onChange(hears);
  }
}
