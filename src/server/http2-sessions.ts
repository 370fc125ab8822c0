/** The HTTP/2 connections of the HTTP port: kept alive while they are used, closed when they are not. */
import { constants, type ServerHttp2Session } from "node:http2";
import type { Limits } from "./limits.ts";

/** Every open HTTP/2 connection of one server. */
export class Http2Sessions {
  readonly #limits: Limits;
  readonly #open = new Set<ServerHttp2Session>();

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** Takes care of a new connection until it closes. */
  add(session: ServerHttp2Session): void {
    const { keepaliveTimeMs, maxConnectionIdleMs } = this.#limits;
    let streams = 0;
    let idleSince = performance.now();
    this.#open.add(session);
    session.on("stream", (stream) => {
      streams++;
      stream.once("close", () => {
        streams--;
        idleSince = performance.now();
      });
    });
    const timer = setInterval(() => {
      if (streams === 0 && performance.now() - idleSince >= maxConnectionIdleMs) session.close();
      else this.#ping(session);
    }, keepaliveTimeMs);
    timer.unref();
    session.once("close", () => {
      clearInterval(timer);
      this.#open.delete(session);
    });
    // The session closes after an error; there is nobody to tell.
    session.on("error", () => {});
  }

  /** Tells every client to go elsewhere; each connection ends with its last stream. */
  close(): void {
    for (const session of this.#open) session.close();
  }

  #ping(session: ServerHttp2Session): void {
    if (session.closed || session.destroyed) return;
    const timer = setTimeout(
      () => session.destroy(undefined, constants.NGHTTP2_NO_ERROR),
      this.#limits.keepaliveTimeoutMs,
    );
    timer.unref();
    const answered = () => clearTimeout(timer);
    session.once("close", answered);
    const sent = session.ping(() => {
      answered();
      session.off("close", answered);
    });
    if (!sent) session.destroy();
  }
}
