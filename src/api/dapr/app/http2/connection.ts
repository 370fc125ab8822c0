/**
 * HTTP/2 to one application, by hand: its connection, made anew when it has ended.
 *
 * Events are delivered one by one, each with a call of its own, and Node's own client costs several times what the rest
 * of a delivery does: a stream object with its events for each call. Here a call is two frames that are written at once.
 */
import { Exchange, type Http2Answer, type Http2Request } from "./exchange.ts";
import { HeaderWriter } from "./header-writer.ts";
import { type Http2Options, Session } from "./session.ts";

/** See the head of this file. */
export class Http2Connection {
  readonly #options: Http2Options;
  readonly #writer = new HeaderWriter();
  readonly #common: Readonly<Record<string, string>>;
  #session: Session | undefined;
  /** Those before, as long as calls are under way on them. */
  readonly #before = new Set<Session>();

  constructor(options: Http2Options) {
    const { host, port, tls } = options;
    this.#options = options;
    this.#common = {
      ":scheme": tls ? "https" : "http",
      ":authority": `${host.includes(":") ? `[${host}]` : host}:${port}`,
    };
  }

  /** The part of requests that is the same in many; method and path, and names in lower case. */
  head(method: "GET" | "POST", path: string, headers: Readonly<Record<string, string>>): Buffer {
    return this.#writer.block({ ":method": method, ":path": path, ...this.#common, ...headers });
  }

  /** Throws AppUnreachable, and the signal's reason when that aborts. */
  request(request: Http2Request, signal: AbortSignal): Promise<Http2Answer> {
    if (signal.aborted) return Promise.reject(signal.reason);
    const exchange = new Exchange(request, signal, this.#options.maxAnswerBytes);
    this.#current().send(exchange);
    return exchange.promise;
  }

  /** Ends it; calls without an answer fail. */
  close(): void {
    this.#session?.destroy();
    for (const each of this.#before) each.destroy();
  }

  /** The session that takes requests: a new one when the last does not any more. */
  #current(): Session {
    const last = this.#session;
    if (last && !last.leaving) return last;
    if (last) this.#before.add(last);
    for (const each of this.#before) if (each.ended) this.#before.delete(each);
    this.#session = new Session(this.#options, this.#writer);
    return this.#session;
  }
}
