/** The life of one component: opened, tried again for as long as it takes, closed. */
import { backoffMs, scattered } from "../backoff.ts";
import type { Connection } from "../blocks/connection.ts";
import type { Open, OpenContext } from "../component.ts";
import { fault } from "../faults.ts";
import { pause } from "../pause.ts";

/** Before each attempt but the first. */
const retries = { firstMs: 250, lastMs: 30_000 };
/** What clients are told to wait while an attempt is under way, in milliseconds. */
const retryWhileOpeningMs = 500;
/** A status message is never longer, in characters. */
const maxMessageLength = 300;

/** Whether a component can serve, since when, and why not. */
export interface OpeningStatus {
  /** `opening`: the first attempt is under way; `failed`: at least one has failed, more will follow. */
  readonly state: "opening" | "ready" | "failed" | "closed";
  /** Why it cannot serve, without secrets; "" otherwise. */
  readonly message: string;
  /** Milliseconds since 1970. */
  readonly sinceMs: number;
}

/** What opens a component, and how. */
export interface OpeningOptions<Driver> {
  /** The component's type, such as "state.redis". */
  readonly type: string;
  readonly open: Open<Driver>;
  readonly context: Omit<OpenContext, "signal">;
  /** How long one attempt may take, in milliseconds. */
  readonly initTimeoutMs: number;
  /** False (`ignoreErrors`): the sidecar is ready without it. */
  readonly required: boolean;
  /** See `ComponentOf.comes`. */
  readonly comes?: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Called at each change of the status, for the log. The cause may have secrets in it. */
  readonly onChange?: (status: OpeningStatus, cause?: unknown) => void;
}

/** What every driver has, whatever its block. */
interface AnyDriver {
  close(): Promise<void>;
}

/**
 * A component that opens itself and keeps trying, with exponential backoff and
 * jitter, and when what it needs has come, until it is open or closed. Once open it stays so: a driver finds its
 * server again by itself.
 */
export class Opening<Driver extends AnyDriver> implements Connection<Driver> {
  readonly component: string;
  readonly type: string;
  readonly required: boolean;
  readonly #options: OpeningOptions<Driver>;
  readonly #closing = new AbortController();
  readonly #opened = Promise.withResolvers<Driver>();
  readonly #tried = Promise.withResolvers<void>();
  #driver: Driver | undefined;
  #status: OpeningStatus = { state: "opening", message: "it is being opened", sinceMs: Date.now() };
  #nextAttemptAtMs: number | undefined;
  #running: Promise<void> | undefined;

  constructor(options: OpeningOptions<Driver>) {
    this.component = options.context.name;
    this.type = options.type;
    this.required = options.required;
    this.#options = options;
    this.#opened.promise.catch(() => {}); // Nobody may be waiting when it is closed.
  }

  /** Begins to open it. Returns at once; called a second time it does nothing. */
  start(): void {
    this.#running ??= this.#run();
  }

  get status(): OpeningStatus {
    return this.#status;
  }

  current(): Driver {
    if (this.#driver === undefined) throw this.#unavailable();
    return this.#driver;
  }

  async ready(signal: AbortSignal): Promise<Driver> {
    if (this.#driver !== undefined) return this.#driver;
    if (signal.aborted) throw this.#unavailable();
    const { promise, reject } = Promise.withResolvers<never>();
    const giveUp = () => reject(this.#unavailable());
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      return await Promise.race([this.#opened.promise, promise]);
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  /** Resolves when the first attempt has ended, whichever way. */
  get tried(): Promise<void> {
    return this.#tried.promise;
  }

  /** Stops trying, and closes the driver if there is one. Throws what the driver throws. */
  async close(): Promise<void> {
    const driver = this.#driver;
    this.#driver = undefined;
    this.#change({ state: "closed", message: "it is closed", sinceMs: Date.now() });
    this.#closing.abort();
    if (driver === undefined) this.#opened.reject(this.#unavailable());
    await this.#running;
    await driver?.close();
  }

  async #run(): Promise<void> {
    let attempt = 0;
    while (!this.#closing.signal.aborted) {
      attempt += 1;
      try {
        this.#nextAttemptAtMs = undefined;
        const driver = await this.#attempt();
        this.#driver = driver;
        this.#change({ state: "ready", message: "", sinceMs: Date.now() });
        this.#opened.resolve(driver);
        return;
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        const delayMs = Math.round(scattered(backoffMs(attempt, retries)));
        this.#nextAttemptAtMs = Date.now() + delayMs;
        const sinceMs = this.#status.state === "failed" ? this.#status.sinceMs : Date.now();
        this.#change({ state: "failed", message: withoutSecrets(error), sinceMs }, error);
        // What has come is tried again soon, should it not serve yet.
        if (await this.#waited(delayMs)) attempt = 0;
      }
    }
  }

  /** Waits, or until what is to be connected to has come: then it is true. */
  async #waited(delayMs: number): Promise<boolean> {
    const over = new AbortController();
    const signal = AbortSignal.any([this.#closing.signal, over.signal]);
    let came = false;
    void this.#options.comes?.(signal).then(() => {
      came = !signal.aborted;
      over.abort();
    });
    await pause(delayMs, signal);
    over.abort();
    return came;
  }

  /** One attempt. A driver that arrives after the attempt was given up is closed again. */
  #attempt(): Promise<Driver> {
    const { open, context, initTimeoutMs } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<Driver>();
    const attempt = new AbortController();
    const giveUp = (why: Error) => {
      reject(why);
      attempt.abort(why);
    };
    const stop = () => giveUp(new Error("the sidecar is stopping"));
    const timer = setTimeout(() => giveUp(new Error(`no answer within ${initTimeoutMs} ms`)), initTimeoutMs);
    this.#closing.signal.addEventListener("abort", stop, { once: true });
    open({ ...context, signal: attempt.signal }).then(
      (driver) => (attempt.signal.aborted ? driver.close().catch(() => {}) : resolve(driver)),
      reject,
    );
    return promise.finally(() => {
      clearTimeout(timer);
      this.#closing.signal.removeEventListener("abort", stop);
    });
  }

  #change(status: OpeningStatus, cause?: unknown): void {
    this.#status = status;
    this.#tried.resolve();
    this.#options.onChange?.(status, cause);
  }

  #unavailable() {
    const { state, message } = this.#status;
    const retryAfterMs =
      state === "closed"
        ? undefined
        : Math.max(0, (this.#nextAttemptAtMs ?? Date.now() + retryWhileOpeningMs) - Date.now());
    return fault("COMPONENT_UNAVAILABLE", `component "${this.component}" cannot serve now: ${message}`, {
      metadata: { component: this.component },
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  }
}

/**
 * The first line of an error's message, for clients. Libraries put connection
 * strings into their messages, so what may be a password is taken out of them.
 */
function withoutSecrets(error: unknown): string {
  const line = (error instanceof Error ? error.message : String(error)).split("\n", 1)[0]!;
  const clean = line
    .replace(/\/\/[^/@\s]*@/g, "//***@")
    .replace(/((?:password|passwd|pwd|secret|token|api_?key)["']?\s*[=:]\s*)[^\s;,&]+/gi, "$1***");
  return clean.length > maxMessageLength ? `${clean.slice(0, maxMessageLength)}...` : clean;
}
