/** A connection to Redis, whatever stands there: one server, sentinels, a cluster. */
import type { Cluster, ClusterOptions, Redis, RedisOptions } from "ioredis";
import { backoffMs, scattered } from "../../backoff.ts";
import type { Call } from "../../blocks/call.ts";
import type { OpenContext } from "../../component.ts";
import { pause } from "../../pause.ts";
import type { Log } from "../../telemetry/log.ts";
import { withMaterial } from "../pem.ts";
import {
  connectFailure,
  isReplyError,
  isUnknownScript,
  RedisFailure,
  reasonOf,
  toFailure,
} from "./errors.ts";
import type { Script } from "./script.ts";
import type { ConnectionSettings } from "./settings.ts";
import { slotOf } from "./slots.ts";

/** What Redis answers: text and bytes as Buffers. */
export type Reply = Buffer | number | null | readonly Reply[];
export type Argument = string | number | Buffer;

/** How long a call waits for a server that is away, in milliseconds. */
const patienceMs = 10_000;
/** Calls that may wait for a server that is away. */
const maxWaiting = 10_000;
/** How long the first connection may take, in milliseconds: less than the default of `initTimeout`, which could not say why. */
const openWithinMs = 4500;
/** How often it is looked whether answers come, in milliseconds. */
const watchdogMs = 500;

/** For what is done for nobody in particular. */
const unconditional: Call = { signal: new AbortController().signal };

/** What is used of the library, which is loaded when a component is opened. */
type Library = { readonly Redis: typeof Redis; readonly Cluster: typeof Cluster };

/** What may become of a command whose answer was lost. */
export interface Sending {
  /** True: it is sent again; that it may have been carried out already does no harm, or none that is not documented. */
  readonly repeat?: boolean;
  /** How long it may take in all when the server is away, in milliseconds. Default `patienceMs`. */
  readonly withinMs?: number;
}

/**
 * One connection (in a cluster, one for each node) that carries all commands but those that block. When the
 * server goes away it connects again, for ever; calls wait for it, but not longer than `patienceMs`. A server that
 * takes commands and answers none for `answerTimeoutMs` is away too.
 */
export class Link {
  readonly cluster: boolean;
  readonly address: string;
  readonly #library: Library;
  readonly #settings: ConnectionSettings;
  readonly #client: Redis | Cluster;
  readonly #log: Log;
  readonly #waiting = new Set<() => void>();
  readonly #watchdog: NodeJS.Timeout;
  #up = true;
  #closed = false;
  #corked: { readonly cork: () => void; readonly uncork: () => void } | undefined;
  #unanswered = 0;
  #lastSignMs = 0;
  #handshakeSinceMs: number | undefined;
  #lastError: unknown;
  /** Why Redis refused to be connected to again, as the log has it; "" when it has nothing of it. */
  #refusal = "";

  private constructor(library: Library, settings: ConnectionSettings, client: Redis | Cluster, log: Log) {
    this.#library = library;
    this.#settings = settings;
    this.#client = client;
    this.#log = log;
    this.cluster = settings.kind === "cluster";
    this.address = addressOf(settings);
    this.#watchdog = setInterval(() => this.#watch(), watchdogMs);
    this.#watchdog.unref();
    client.on("ready", () => void this.#tryOut());
    client.on("close", () => this.#away());
    // Where a connection that is being made is given up, the library gives up all.
    client.on("end", () => this.#connectAgain());
    client.on("error", (error: unknown) => this.#noteError(error));
  }

  /** Loads the library and connects. Throws RedisFailure when the server cannot be spoken to. */
  static async open(settings: ConnectionSettings, context: OpenContext): Promise<Link> {
    // A bundle has what a module of CommonJS exports under this name only.
    const { default: library } = await import("ioredis");
    const client = makeClient(library, settings);
    const errors: unknown[] = [];
    const note = (error: unknown) => void errors.push(...detailsOf(error));
    client.on("error", note);
    client.on("node error", note);
    const giveUp = Promise.withResolvers<never>();
    giveUp.promise.catch(() => {});
    const abort = () => giveUp.reject(new RedisFailure("unavailable", silence(settings)));
    const timer = setTimeout(abort, openWithinMs);
    context.signal.addEventListener("abort", abort, { once: true });
    // A first failure is told at once: whoever opens decides about the next attempt.
    client.once("close", () => giveUp.reject(errors.at(-1)));
    try {
      await Promise.race([client.connect().then(() => check(client, settings, errors)), giveUp.promise]);
    } catch (error) {
      // What comes after this one has nobody to listen to it.
      client.on("error", () => {});
      client.disconnect();
      throw connectFailure(errors.find(isTelling) ?? errors.at(-1) ?? error, addressOf(settings));
    } finally {
      clearTimeout(timer);
      context.signal.removeEventListener("abort", abort);
      client.off("error", note);
      client.off("node error", note);
    }
    return new Link(library, settings, client, context.telemetry.log);
  }

  /** Sends a command. Throws RedisFailure, also when the call's signal aborts. */
  async send(args: readonly [string, ...Argument[]], call: Call, sending: Sending = {}): Promise<Reply> {
    const deadline = performance.now() + (sending.withinMs ?? patienceMs);
    for (;;) {
      if (call.signal.aborted) throw cancelled(call);
      if (!this.#up) await this.#untilUp(call, deadline);
      try {
        return await this.#attempt(args, call);
      } catch (error) {
        const failure = toFailure(error);
        const again = failure.errorClass === "unavailable" && (sending.repeat || !failure.ambiguous);
        if (isUnknownScript(error) || !again || this.#closed || performance.now() > deadline) {
          throw isUnknownScript(error) ? error : failure;
        }
        // The server may say for a while that it is loading, or that another is the primary now.
        await pause(Math.min(100, deadline - performance.now()), call.signal);
      }
    }
  }

  /** Runs a script; gives it to the server when that has it not. */
  async run(
    script: Script,
    keys: readonly string[],
    args: readonly Argument[],
    call: Call,
    sending: Sending = {},
  ): Promise<Reply> {
    try {
      return await this.send(["EVALSHA", script.hash, keys.length, ...keys, ...args], call, sending);
    } catch (error) {
      if (!isUnknownScript(error)) throw error;
      return this.send(["EVAL", script.lua, keys.length, ...keys, ...args], call, sending);
    }
  }

  /** Waits until the replicas that were asked for have what was written before. Throws RedisFailure. */
  async replicated(call: Call): Promise<void> {
    const { waitReplicas, waitTimeoutMs } = this.#settings;
    if (waitReplicas === 0) return;
    const reached = await this.send(["WAIT", waitReplicas, waitTimeoutMs], call);
    if (Number(reached) >= waitReplicas) return;
    throw new RedisFailure(
      "unavailable",
      `only ${reached} of ${waitReplicas} replicas had the write within ${waitTimeoutMs} ms`,
      { ambiguous: true },
    );
  }

  /** Every server that has keys of its own, each by itself: for what a cluster cannot do as a whole. */
  primaries(): readonly ((args: readonly [string, ...Argument[]], call: Call) => Promise<Reply>)[] {
    if (!this.cluster) return [(args, call) => this.send(args, call, { repeat: true })];
    return (this.#client as Cluster).nodes("master").map((node) => async ([name, ...rest], call) => {
      if (call.signal.aborted) throw cancelled(call);
      try {
        return (await untilAborted(node.callBuffer(name, rest), call)) as Reply;
      } catch (error) {
        throw toFailure(error);
      }
    });
  }

  /** A connection of its own, for what blocks or listens: to the server that has the key. The caller ends it. */
  separate(key: string): Redis {
    const settings = this.#settings;
    const options = { ...clientOptions(settings), enableOfflineQueue: true, retryStrategy: () => null };
    if (!this.cluster) return new this.#library.Redis(options);
    const place = (this.#client as Cluster).slots[slotOf(key)]?.[0];
    const colon = place?.lastIndexOf(":") ?? -1;
    const [first] = settings.addresses;
    const host = place?.slice(0, colon) ?? first!.host;
    const port = place ? Number(place.slice(colon + 1)) : first!.port;
    return new this.#library.Redis({ ...options, host, port });
  }

  /** Whether commands can be sent now. */
  get up(): boolean {
    return this.#up;
  }

  /** Resolves when commands can be sent, when `limitMs` have passed, or when the signal aborts. Never rejects. */
  async whenUp(signal: AbortSignal, limitMs: number): Promise<void> {
    if (this.#up || this.#closed) return;
    await this.#untilUp({ signal }, performance.now() + limitMs).catch(() => {});
  }

  /** Ends the connection. Calls that wait fail. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#watchdog);
    this.#client.disconnect();
    this.#wakeAll();
  }

  async #attempt([name, ...rest]: readonly [string, ...Argument[]], call: Call): Promise<Reply> {
    this.#cork();
    if (this.#unanswered === 0) this.#lastSignMs = performance.now();
    this.#unanswered += 1;
    const answer = this.#client.callBuffer(name, rest) as Promise<Reply>;
    const settled = () => {
      this.#unanswered -= 1;
      this.#lastSignMs = performance.now();
    };
    answer.then(settled, settled);
    return untilAborted(answer, call);
  }

  /** What is sent in one go of the event loop leaves in one write. */
  #cork(): void {
    if (this.#corked || this.cluster) return;
    const { stream } = this.#client as Redis;
    if (!stream) return;
    this.#corked = stream;
    stream.cork();
    process.nextTick(() => {
      this.#corked = undefined;
      stream.uncork();
    });
  }

  async #untilUp(call: Call, deadline: number): Promise<void> {
    if (this.#closed) throw new RedisFailure("unavailable", "the connection to Redis is closed");
    if (this.#waiting.size >= maxWaiting)
      throw new RedisFailure("unavailable", "too many calls wait for Redis, which is away");
    const left = deadline - performance.now();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.max(0, left));
    call.signal.addEventListener("abort", resolve as () => void, { once: true });
    this.#waiting.add(resolve);
    await promise;
    clearTimeout(timer);
    call.signal.removeEventListener("abort", resolve as () => void);
    this.#waiting.delete(resolve);
    if (call.signal.aborted) throw cancelled(call);
    if (!this.#up) throw this.#awayFailure();
  }

  #awayFailure(): RedisFailure {
    if (this.#lastError !== undefined) {
      const failure = connectFailure(this.#lastError, this.address);
      return new RedisFailure("unavailable", failure.message);
    }
    return new RedisFailure("unavailable", `Redis at ${this.address} is away`);
  }

  /** Connected is not back: what listens may be a proxy that closes again, and say so at every attempt. */
  async #tryOut(): Promise<void> {
    if (this.#up) return;
    try {
      await this.#attempt(["PING"], unconditional);
    } catch (error) {
      // Who refuses is there.
      if (!isReplyError(error)) return;
    }
    this.#back();
  }

  #back(): void {
    if (this.#up) return;
    this.#up = true;
    this.#lastError = undefined;
    this.#refusal = "";
    this.#log.info({ address: this.address }, "connected to Redis again");
    this.#wakeAll();
  }

  #connectAgain(): void {
    this.#away();
    if (this.#closed) return;
    const again = () => {
      if (!this.#closed && this.#client.status === "end") this.#client.connect().catch(() => {});
    };
    setTimeout(again, this.#settings.lastRetryMs).unref();
  }

  #away(): void {
    if (!this.#up || this.#closed) return;
    this.#up = false;
    const reason = reasonOf(this.#lastError);
    this.#log.warn({ address: this.address, reason }, "the connection to Redis is lost; connecting again");
  }

  /** That nobody is there is said once, when the connection is lost. A refusal is for whoever wrote the configuration. */
  #noteError(error: unknown): void {
    this.#lastError = error;
    if (this.#up || this.#closed) return;
    const { errorClass, message } = connectFailure(error, this.address);
    if (errorClass !== "refused" || message === this.#refusal) return;
    this.#refusal = message;
    this.#log.warn(message);
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake();
  }

  /** Gives up a connection that takes commands and answers none. */
  #watch(): void {
    if (this.#closed) return;
    this.#watchHandshake();
    // Answers that are here already, and that we had no time to read, count.
    if (this.#isSilent()) setImmediate(() => this.#giveUp());
  }

  #isSilent(): boolean {
    return this.#unanswered > 0 && performance.now() - this.#lastSignMs > this.#settings.answerTimeoutMs;
  }

  #giveUp(): void {
    if (this.#closed || !this.#isSilent()) return;
    this.#lastSignMs = performance.now();
    this.#lastError = new Error(`no answer within ${this.#settings.answerTimeoutMs} ms`);
    // To end it in peace takes another end that answers.
    if (this.cluster) for (const node of (this.#client as Cluster).nodes()) node.stream?.destroy();
    else (this.#client as Redis).stream?.destroy();
  }

  /** Gives up a server that lets itself be connected to, and then does not even take the password. */
  #watchHandshake(): void {
    if (this.cluster || this.#client.status !== "connect") {
      this.#handshakeSinceMs = undefined;
      return;
    }
    this.#handshakeSinceMs ??= performance.now();
    if (performance.now() - this.#handshakeSinceMs < this.#settings.answerTimeoutMs) return;
    this.#handshakeSinceMs = undefined;
    (this.#client as Redis).stream?.destroy();
  }
}

/** `host:port`, for messages. */
function addressOf({ addresses }: ConnectionSettings): string {
  return addresses.map(({ host, port }) => `${host}:${port}`).join(", ");
}

/** Whether what was reached is what the settings say it is. Throws. */
async function check(
  client: Redis | Cluster,
  settings: ConnectionSettings,
  errors: unknown[],
): Promise<void> {
  await client.ping();
  // That there is no such database is told in passing.
  const noDatabase = errors.find((error) => error instanceof Error && /DB index/i.test(error.message));
  if (noDatabase !== undefined) throw noDatabase;
  if (settings.kind === "cluster") return;
  const slots: unknown = await client.call("CLUSTER", "SLOTS").catch(() => []);
  if (!Array.isArray(slots) || slots.length < 2) return;
  throw new RedisFailure(
    "refused",
    `Redis at ${addressOf(settings)} is a node of a cluster: redisType must be "cluster"`,
  );
}

function silence(settings: ConnectionSettings): string {
  const hint = settings.tls ? "; is TLS on there?" : "; is it Redis, and is TLS off there?";
  return `what listens at ${addressOf(settings)} does not answer${hint}`;
}

function makeClient(library: Library, settings: ConnectionSettings): Redis | Cluster {
  const options = clientOptions(settings);
  if (settings.kind !== "cluster") return new library.Redis({ ...options, lazyConnect: true });
  const { host: _host, port: _port, retryStrategy: _retry, enableOfflineQueue: _queue, ...nodes } = options;
  const clusterOptions: ClusterOptions = {
    lazyConnect: true,
    enableOfflineQueue: false,
    enableReadyCheck: true,
    slotsRefreshTimeout: settings.answerTimeoutMs,
    slotsRefreshInterval: 10_000,
    retryDelayOnFailover: 200,
    retryDelayOnClusterDown: 200,
    clusterRetryStrategy: (times) => retryDelayMs(settings, times),
    redisOptions: nodes as ClusterOptions["redisOptions"],
  };
  // Names in certificates are those of the configuration; the nodes call themselves by address.
  const dnsLookup: ClusterOptions["dnsLookup"] = (address, callback) => callback(null, address);
  return new library.Cluster(
    settings.addresses.slice(),
    settings.tls ? { ...clusterOptions, dnsLookup } : clusterOptions,
  );
}

function clientOptions(settings: ConnectionSettings): RedisOptions {
  const { tls, addresses, kind } = settings;
  const checks = tls && {
    rejectUnauthorized: tls.rejectUnauthorized,
    ...(tls.rejectUnauthorized ? {} : { checkServerIdentity: () => undefined }),
  };
  const tlsOptions = tls && withMaterial(checks!, tls);
  const options: RedisOptions = {
    protocol: 2,
    db: settings.database,
    connectTimeout: settings.connectTimeoutMs,
    keepAlive: 30_000,
    noDelay: true,
    // A command is never kept or sent again behind our back: whoever sends it decides.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    // It asks for INFO, which users with few rights may not have. What is loading says so for itself.
    enableReadyCheck: false,
    disableClientInfo: true,
    lazyConnect: true,
    retryStrategy: (times) => retryDelayMs(settings, times),
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
    ...(settings.username === undefined ? {} : { username: settings.username }),
    ...(settings.password === undefined ? {} : { password: settings.password }),
    ...(tlsOptions ? { tls: tlsOptions } : {}),
  };
  if (kind !== "sentinel") return { ...options, ...addresses[0]! };
  return {
    ...options,
    sentinels: addresses.slice(),
    name: settings.masterName,
    failoverDetector: true,
    sentinelRetryStrategy: (times) => retryDelayMs(settings, times),
    ...(settings.sentinelUsername === undefined ? {} : { sentinelUsername: settings.sentinelUsername }),
    ...(settings.sentinelPassword === undefined ? {} : { sentinelPassword: settings.sentinelPassword }),
    ...(tlsOptions ? { sentinelTLS: tlsOptions, enableTLSForSentinelMode: true } : {}),
  };
}

function retryDelayMs({ firstRetryMs, lastRetryMs }: ConnectionSettings, times: number): number {
  return Math.ceil(scattered(backoffMs(times, { firstMs: firstRetryMs, lastMs: lastRetryMs })));
}

/** Errors that say more than that the connection is closed. */
function isTelling(error: unknown): boolean {
  return error instanceof Error && !/Connection is closed|Failed to refresh slots/.test(error.message);
}

/** An error and what is behind it. */
function detailsOf(error: unknown): unknown[] {
  if (!(error instanceof Error)) return [];
  const last = "lastNodeError" in error ? error.lastNodeError : undefined;
  return last === undefined ? [error] : [last, error];
}

function cancelled(call: Call): RedisFailure {
  return new RedisFailure("cancelled", "the call ended before Redis answered", { cause: call.signal.reason });
}

/** The answer, or an error as soon as the call ends. The command is not taken back. */
function untilAborted<T>(answer: Promise<T>, call: Call): Promise<T> {
  const { signal } = call;
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(cancelled(call));
    signal.addEventListener("abort", abort, { once: true });
    const end = () => signal.removeEventListener("abort", abort);
    answer.then(
      (value) => {
        end();
        resolve(value);
      },
      (error: unknown) => {
        end();
        reject(error);
      },
    );
  });
}
