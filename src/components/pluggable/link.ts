/**
 * The way to one component in its process: connected, asked for its services, initialized; and all of that again
 * when the process has died and another has taken its place.
 */
import { type CallOptions, ConnectError, type Transport } from "@connectrpc/connect";
import { backoffMs } from "../../backoff.ts";
import type { Call } from "../../blocks/call.ts";
import { pause } from "../../pause.ts";
import type { Log } from "../../telemetry/log.ts";
import { CallEnded, ComponentAway, toFailure } from "./failures.ts";
import { servicesOf } from "./reflection.ts";
import { SocketConnection } from "./socket-connection.ts";
import { type SocketsFolder, socketsIn } from "./sockets.ts";

/** How long calls wait for a component that is away, in milliseconds. */
const awayWithinMs = 10_000;
/** How long one call may take, in milliseconds, whatever its own deadline is. */
const answerWithinMs = 60_000;
/** How long it may take to connect again and to initialize, in milliseconds. */
const dialWithinMs = 30_000;
/** How long to wait until the next attempt, in milliseconds: longer each time. */
const pauses = { firstMs: 50, lastMs: 2000 };
/** Tells a process that has several components of one kind which of them is meant. */
const instanceHeader = "x-component-instance";

/** A component that is initialized, as long as its connection lasts. */
export interface Session {
  readonly transport: Transport;
  /** The full names of what the process serves. */
  readonly services: ReadonlySet<string>;
  /** Whether the connection has ended. */
  readonly ended: boolean;
}

/** What a link is made of. */
export interface LinkOptions {
  readonly folder: SocketsFolder;
  /** The name of the socket's file, without its extension. */
  readonly socket: string;
  /** The full name of the service that there must be. */
  readonly service: string;
  /** The component's name. */
  readonly instance: string;
  /** Says to the component what its settings are. It throws what the call threw. */
  readonly initialize: (session: Session, options: CallOptions) => Promise<void>;
  readonly log: Log;
}

/** See the head of this file. */
export class Link {
  readonly #options: LinkOptions;
  readonly #closing = new AbortController();
  /** That of the session, and earlier ones on which calls are still under way. */
  readonly #connections = new Set<SocketConnection>();
  #session: Session | undefined;
  #dialing: Promise<void> | undefined;
  /** Why there is no session. */
  #problem = "";

  private constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** Connects and initializes. Throws when that fails; and the signal's reason. */
  static async open(options: LinkOptions, signal: AbortSignal): Promise<Link> {
    const link = new Link(options);
    await link.#dial(signal);
    return link;
  }

  /** The session, as soon as there is one. Throws ComponentAway and CallEnded. */
  async session(signal: AbortSignal): Promise<Session> {
    if (this.#session && !this.#session.ended) return this.#session;
    this.#dialing ??= this.#dialUntilThere().finally(() => {
      this.#dialing = undefined;
    });
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), awayWithinMs);
    try {
      await aborted(this.#dialing, AbortSignal.any([signal, late.signal]));
    } finally {
      clearTimeout(timer);
    }
    if (signal.aborted) throw new CallEnded("the call ended while the component was away");
    if (this.#session && !this.#session.ended) return this.#session;
    throw new ComponentAway(`the component is away: ${this.#problem}`);
  }

  /** Makes a call, and once more when the process has died meanwhile, if that may be. Throws what `classify` knows. */
  async call<T>(
    work: (session: Session, options: CallOptions) => Promise<T>,
    { signal }: Call,
    mayRepeat = false,
  ): Promise<T> {
    for (;;) {
      const session = await this.session(signal);
      try {
        return await work(session, { ...this.callOptions(signal), timeoutMs: answerWithinMs });
      } catch (error) {
        if (mayRepeat && session.ended && !signal.aborted) continue;
        throw toFailure(error, signal, session.ended);
      }
    }
  }

  /** What every call to the component has. */
  callOptions(signal: AbortSignal): CallOptions {
    return { signal, headers: { [instanceHeader]: headerText(this.#options.instance) } };
  }

  /** Ends every call. */
  close(): void {
    this.#closing.abort();
    for (const connection of this.#connections) connection.close();
  }

  /** Dials until that succeeds or the link is closed. */
  async #dialUntilThere(): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#closing;
    for (let attempt = 1; !signal.aborted; attempt += 1) {
      try {
        await this.#dial(AbortSignal.any([signal, AbortSignal.timeout(dialWithinMs)]));
        log.info("the component's process is there again");
        return;
      } catch (err) {
        this.#problem = err instanceof Error ? err.message : String(err);
        if (attempt === 1 && !signal.aborted)
          log.warn({ err }, "the component's process is gone; waiting for it");
        await pause(backoffMs(attempt, pauses), signal);
      }
    }
    this.#problem = "it is closed";
  }

  async #dial(signal: AbortSignal): Promise<void> {
    const { service, socket, initialize } = this.#options;
    const path = await this.#find();
    const connection = await SocketConnection.open(path, signal).catch((cause: unknown) => {
      throw new ComponentAway(`nobody answers at ${path}: ${messageOf(cause)}`, { cause });
    });
    try {
      const services = await servicesOf(connection.transport, signal).catch((cause: unknown) => {
        throw new ComponentAway(`${path} does not tell its services by reflection: ${messageOf(cause)}`, {
          cause,
        });
      });
      if (!services.has(service)) {
        const own = [...services].filter((name) => !name.startsWith("grpc."));
        throw new ComponentAway(
          `${path} does not serve ${service}; it serves: ${own.join(", ") || "nothing"}`,
        );
      }
      const session: Session = {
        transport: connection.transport,
        services,
        get ended() {
          return connection.ended;
        },
      };
      await initialize(session, this.callOptions(signal)).catch((cause: unknown) => {
        throw new ComponentAway(`"${socket}" could not be initialized: ${messageOf(cause)}`, { cause });
      });
      if (this.#closing.signal.aborted) throw new ComponentAway("it is closed");
      this.#connections.add(connection);
      connection.onClosed(() => void this.#connections.delete(connection));
      this.#session = session;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  async #find(): Promise<string> {
    const { folder, socket } = this.#options;
    const path = (await socketsIn(folder))?.get(socket.toLowerCase());
    if (path === undefined) throw new ComponentAway(`there is no socket "${socket}" in ${folder.path}`);
    return path;
  }
}

/** Resolves with a promise, or when the signal aborts first. */
async function aborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const end = () => resolve();
  signal.addEventListener("abort", end, { once: true });
  await Promise.race([promise, ended]).finally(() => signal.removeEventListener("abort", end));
}

/** A name as a header may have it. */
function headerText(name: string): string {
  return /^[\x21-\x7e]+$/.test(name) ? name : encodeURIComponent(name);
}

function messageOf(error: unknown): string {
  if (error instanceof ConnectError) return error.rawMessage;
  return error instanceof Error ? error.message : String(error);
}
