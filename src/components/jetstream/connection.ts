/** One connection to NATS, which finds its server again by itself, and what JetStream is asked through it. */
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import {
  type Authenticator,
  type ConnectionOptions,
  connect,
  errors,
  jwtAuthenticator,
  type Msg,
  type NatsConnection,
  type Payload,
  type RequestOptions,
  type TlsOptions,
} from "@nats-io/transport-node";
import type { Call } from "../../blocks/call.ts";
import { Pem, withMaterial } from "../pem.ts";
import { connectError, NatsError } from "./errors.ts";
import { type ConnectionFields, serversOf } from "./settings.ts";

/** How long one attempt to connect may take. */
const connectWithinMs = 5000;
/** How long an answer of JetStream's API may take. */
const answerWithinMs = 5000;
/** A server that answers no ping for three of these is given up, and looked for again. */
const pingEveryMs = 3000;
const reconnectEveryMs = 250;
/** Calls that may wait for a server that is away. */
const maxWaiting = 10_000;

/** A version of a server. */
export type Version = readonly [major: number, minor: number];

/** See the head of this file. */
export class Connection {
  readonly nats: NatsConnection;
  readonly manager: JetStreamManager;
  /** What subjects of JetStream's API begin with, such as "$JS.API". */
  readonly prefix: string;
  readonly #listeners = new Set<(connected: boolean) => void>();
  readonly #forbidden = new Set<(subject: string) => void>();
  #connected = true;
  #waiting = 0;

  private constructor(nats: NatsConnection, manager: JetStreamManager, prefix: string) {
    this.nats = nats;
    this.manager = manager;
    this.prefix = prefix;
    void this.#follow();
  }

  /** Connects, and makes sure that there is JetStream. Throws a NatsError. */
  static async open(
    fields: ConnectionFields,
    fallbackName: string,
    signal: AbortSignal,
  ): Promise<Connection> {
    signal.throwIfAborted();
    const servers = serversOf(fields.natsURL)!;
    const prefix = fields.apiPrefix || (fields.domain ? `$JS.${fields.domain}.API` : "$JS.API");
    let nats: NatsConnection | undefined;
    try {
      nats = await connect(connectOptions(fields, fallbackName));
      const manager = await jetstreamManager(nats, { apiPrefix: prefix, timeout: answerWithinMs });
      signal.throwIfAborted();
      return new Connection(nats, manager, prefix);
    } catch (error) {
      await nats?.close();
      if (error === signal.reason || error instanceof NatsError) throw error;
      throw connectError(error, servers.addresses);
    }
  }

  get connected(): boolean {
    return this.#connected;
  }

  get closed(): boolean {
    return this.nats.isClosed();
  }

  /** Whether the server is of this version or a newer one. */
  isAtLeast([major, minor]: Version): boolean {
    const [ours, theirs] = (this.nats.info?.version ?? "0.0")
      .split(".")
      .map((part) => Number.parseInt(part, 10));
    return ours! > major || (ours === major && theirs! >= minor);
  }

  /** The largest message that the server takes, in bytes, headers included. */
  get maxPayloadBytes(): number {
    return this.nats.info?.max_payload ?? 1024 * 1024;
  }

  /** Calls back whenever the connection is lost or found again. Returns what ends it. */
  onChange(listener: (connected: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls back with each subject that the server does not let the user publish to. Returns what ends it. */
  onForbidden(listener: (subject: string) => void): () => void {
    this.#forbidden.add(listener);
    return () => this.#forbidden.delete(listener);
  }

  /**
   * Asks, once there is a connection, which is waited for as long as for an answer. When it is lost before the answer has come, it is
   * asked again if it may be asked twice, else a NatsError is thrown: nobody knows whether it was done.
   */
  async request(subject: string, payload: Payload, options: RequestOptions, twice: boolean): Promise<Msg> {
    return await this.#ask(() => this.nats.request(subject, payload, options), options.timeout, twice);
  }

  /**
   * The same for what is asked through `manager` and may be asked twice: the library leaves questions that were lost with the
   * connection to their time limits.
   */
  async asking<T>(ask: () => Promise<T>): Promise<T> {
    return await this.#ask(ask, answerWithinMs, true);
  }

  async #ask<T>(ask: () => Promise<T>, withinMs: number, twice: boolean): Promise<T> {
    for (;;) {
      if (!this.#connected) await this.#connectedWithin(withinMs);
      const lost = new AbortController();
      const end = this.onChange(() => lost.abort());
      try {
        return await until(ask(), lost.signal);
      } catch (error) {
        if (!lost.signal.aborted || this.closed) throw error;
        if (!twice)
          throw new NatsError("unavailable", "the connection was lost before the answer came", {
            cause: error,
          });
      } finally {
        end();
      }
    }
  }

  async ping({ signal }: Call): Promise<void> {
    signal.throwIfAborted();
    if (!this.#connected) throw new NatsError("unavailable", "the connection to the NATS server is lost");
    await until(this.nats.flush(), AbortSignal.any([signal, AbortSignal.timeout(answerWithinMs)]));
    signal.throwIfAborted();
  }

  async close(): Promise<void> {
    await this.nats.close();
    // Nobody waits for what does not come any more.
    for (const listener of [...this.#listeners]) listener(false);
    this.#listeners.clear();
  }

  /** Waits until there is a connection. Throws a NatsError when there is none in time, or too many wait already. */
  async #connectedWithin(limitMs: number): Promise<void> {
    const signal = AbortSignal.timeout(limitMs);
    while (!this.#connected && !this.closed) {
      if (this.#waiting >= maxWaiting)
        throw new NatsError("unavailable", "too many calls wait for the NATS server, which is away");
      this.#waiting += 1;
      await this.#change(signal);
      this.#waiting -= 1;
      if (signal.aborted && !this.#connected)
        throw new NatsError("unavailable", "the connection to the NATS server is lost");
    }
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        end();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const end = this.onChange(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }

  async #follow(): Promise<void> {
    for await (const status of this.nats.status()) {
      if (status.type === "error" && status.error instanceof errors.PermissionViolationError) {
        const { operation, subject } = status.error;
        if (operation === "publish") for (const listener of [...this.#forbidden]) listener(subject);
      }
      if (status.type !== "disconnect" && status.type !== "reconnect") continue;
      const connected = status.type === "reconnect";
      if (connected === this.#connected) continue;
      this.#connected = connected;
      for (const listener of [...this.#listeners]) listener(connected);
    }
  }
}

/** Waits for a promise, or for a signal: then a NatsError that says the server is silent, or the signal's own reason. */
export async function until<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => undefined);
  let onAbort: (() => void) | undefined;
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        onAbort = () => reject(new NatsError("unavailable", "the NATS server does not answer"));
        if (signal.aborted) onAbort();
        else signal.addEventListener("abort", onAbort, { once: true });
      }),
    ]);
  } finally {
    if (onAbort) signal.removeEventListener("abort", onAbort);
  }
}

function connectOptions(fields: ConnectionFields, fallbackName: string): ConnectionOptions {
  const { addresses, tls, user, password, token } = serversOf(fields.natsURL)!;
  const secured = tlsOptions(fields);
  const authenticator = authenticatorOf(fields);
  const anyToken = fields.token || token;
  return {
    servers: [...addresses],
    name: fields.name || fallbackName,
    timeout: connectWithinMs,
    maxReconnectAttempts: -1,
    reconnectTimeWait: reconnectEveryMs,
    reconnectJitter: reconnectEveryMs / 2,
    reconnectJitterTLS: reconnectEveryMs / 2,
    pingInterval: pingEveryMs,
    maxPingOut: 2,
    // Credentials may be put right again on the server while this runs.
    ignoreAuthErrorAbort: true,
    ...(authenticator && { authenticator }),
    ...(!authenticator && user !== undefined && { user, pass: password ?? "" }),
    ...(!authenticator && user === undefined && anyToken && { token: anyToken }),
    ...((tls || secured) && { tls: secured ?? {} }),
  };
}

function authenticatorOf({ jwt, seedKey }: ConnectionFields): Authenticator | undefined {
  if (!jwt || !seedKey) return undefined;
  return jwtAuthenticator(jwt, new TextEncoder().encode(seedKey));
}

function tlsOptions(fields: ConnectionFields): TlsOptions | undefined {
  const { tls_client_cert: cert, tls_client_key: key, tls_ca_cert: ca } = fields;
  if (!cert && !ca) return undefined;
  return withMaterial<TlsOptions>(
    {},
    {
      ...(cert && key && { cert: pem(cert, "tls_client_cert"), key: pem(key, "tls_client_key") }),
      ...(ca && { ca: pem(ca, "tls_ca_cert") }),
    },
  );
}

function pem(value: string, field: string): Pem {
  try {
    return new Pem(value);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    throw new NatsError("refused", `the file that ${field} names cannot be read (${code})`);
  }
}
