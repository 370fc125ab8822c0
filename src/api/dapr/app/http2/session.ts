/** One connection of HTTP/2, from its beginning to its end. */
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Exchange } from "./exchange.ts";
import {
  errorCodes,
  firstWindowBytes,
  flags,
  frame,
  frameHeaderBytes,
  frameTypes,
  maxPayloadBytes,
  maxWindowBytes,
  opening,
  reset,
  settingsOf,
  windowUpdate,
  withoutPadding,
} from "./frames.ts";
import { HeaderReader } from "./header-reader.ts";
import type { HeaderWriter } from "./header-writer.ts";

/** Where the other side is. */
export interface Http2Options {
  /** A name or an address, without brackets. */
  readonly host: string;
  readonly port: number;
  /** Whatever its certificate is: those of applications beside a sidecar are signed by nobody. */
  readonly tls: boolean;
  /** What is kept of an answer, in bytes. */
  readonly maxAnswerBytes: number;
}

/** What the other side may send before it is told that there is room for more, in bytes: on a stream, and in all. */
const windowBytes = 1024 * 1024;
/** What a block of headers may be, in bytes. */
const maxBlockBytes = 64 * 1024;
/** Streams are numbered up to 2^31; long before that there is a new connection. */
const lastStreamId = 2 ** 30;

/** See the head of this file. */
export class Session {
  readonly #socket: Socket;
  readonly #writer: HeaderWriter;
  readonly #reader = new HeaderReader();
  readonly #exchanges = new Map<number, Exchange>();
  /** Those that the other side does not take yet; who sends them limits how many. */
  readonly #waiting = new Set<Exchange>();
  #nextId = 1;
  #out: Buffer[] = [];
  #partial: Buffer | undefined;
  #block: { readonly id: number; readonly ends: boolean; readonly parts: Buffer[] } | undefined;
  #maxStreams = Number.POSITIVE_INFINITY;
  #initialWindow = firstWindowBytes;
  #sendWindow = firstWindowBytes;
  #unacknowledged = 0;
  #connected = false;
  #leaving = false;
  #failure: Error | undefined;

  constructor({ host, port, tls }: Http2Options, writer: HeaderWriter) {
    this.#writer = writer;
    const servername = isIP(host) ? "" : host;
    this.#socket = tls
      ? connectTls({ host, port, servername, ALPNProtocols: ["h2"], rejectUnauthorized: false })
      : connect({ host, port });
    this.#socket.setNoDelay(true);
    this.#socket.once(tls ? "secureConnect" : "connect", () => {
      this.#connected = true;
    });
    this.#socket.on("data", (bytes: Buffer) => this.#receive(bytes));
    this.#socket.on("error", (error) => {
      this.#failure ??= error;
    });
    this.#socket.on("end", () => this.#socket.destroy());
    this.#socket.on("close", () => this.#closed());
    this.#write(opening(windowBytes));
  }

  /** Whether it takes no more requests. */
  get leaving(): boolean {
    return this.#leaving || this.#socket.destroyed;
  }

  /** Sends a request, as soon as the other side takes it. */
  send(exchange: Exchange): void {
    exchange.onAbort(() => this.#abort(exchange));
    if (this.#exchanges.size < this.#maxStreams) this.#begin(exchange);
    else this.#waiting.add(exchange);
  }

  /** Ends it; requests without an answer fail. */
  destroy(): void {
    this.#leaving = true;
    this.#socket.destroy();
  }

  #begin(exchange: Exchange): void {
    exchange.id = this.#nextId;
    this.#nextId += 2;
    if (this.#nextId > lastStreamId) this.#leaving = true;
    exchange.sendWindow = this.#initialWindow;
    this.#exchanges.set(exchange.id, exchange);
    const { head, headers } = exchange.request;
    const { bytes, body } = exchange.begin([head, this.#writer.block(headers)], this.#sendWindow);
    this.#sendWindow -= body;
    this.#write(bytes);
    if (exchange.unsent > 0) this.#continue(exchange);
  }

  /** Sends as much of a body as the windows allow. */
  #continue(exchange: Exchange): void {
    for (let next = exchange.next(this.#sendWindow); next; next = exchange.next(this.#sendWindow)) {
      this.#sendWindow -= next.body;
      this.#write(next.bytes);
    }
  }

  /** Sends with what else is written in this turn of the event loop: a write costs more than what it carries. */
  #write(bytes: Buffer): void {
    if (this.#out.length === 0) setImmediate(() => this.#flush());
    this.#out.push(bytes);
  }

  #flush(): void {
    const out = this.#out;
    this.#out = [];
    if (!this.#socket.destroyed) this.#socket.write(out.length === 1 ? out[0]! : Buffer.concat(out));
  }

  #receive(received: Buffer): void {
    try {
      this.#read(received);
    } catch (error) {
      this.#failure ??= error as Error;
      this.#socket.destroy();
    }
  }

  #read(received: Buffer): void {
    let bytes = this.#partial ? Buffer.concat([this.#partial, received]) : received;
    while (bytes.length >= frameHeaderBytes) {
      const length = bytes.readUIntBE(0, 3);
      if (length > maxPayloadBytes) throw new Error(`a frame of ${length} bytes`);
      const end = frameHeaderBytes + length;
      if (bytes.length < end) break;
      const id = bytes.readUInt32BE(5) & 0x7fff_ffff;
      this.#take(bytes[3]!, bytes[4]!, id, bytes.subarray(frameHeaderBytes, end));
      bytes = bytes.subarray(end);
    }
    this.#partial = bytes.length > 0 ? bytes : undefined;
  }

  #take(type: number, flag: number, id: number, payload: Buffer): void {
    if (this.#block && type !== frameTypes.continuation) throw new Error("headers that are broken off");
    switch (type) {
      case frameTypes.data:
        return this.#data(flag, id, payload);
      case frameTypes.headers: {
        const part = withoutPadding(flag, payload, flag & flags.priority ? 5 : 0);
        this.#block = { id, ends: (flag & flags.endStream) !== 0, parts: [] };
        return this.#headers(flag, part);
      }
      case frameTypes.continuation:
        if (this.#block?.id !== id) throw new Error("headers without a beginning");
        return this.#headers(flag, payload);
      case frameTypes.reset:
        return this.#reset(id, payload.readUInt32BE(0));
      case frameTypes.settings:
        if (!(flag & flags.ack)) this.#settings(payload);
        return;
      case frameTypes.ping:
        if (!(flag & flags.ack)) this.#write(frame(frameTypes.ping, flags.ack, 0, payload));
        return;
      case frameTypes.windowUpdate:
        return this.#window(id, payload.readUInt32BE(0) & maxWindowBytes);
      case frameTypes.goAway:
        return this.#goAway(payload.readUInt32BE(0) & 0x7fff_ffff);
      case frameTypes.pushPromise:
        throw new Error("a push that nobody asked for");
    }
  }

  #headers(flag: number, part: Buffer): void {
    const { id, ends, parts } = this.#block!;
    parts.push(part);
    if (parts.reduce((sum, each) => sum + each.length, 0) > maxBlockBytes)
      throw new Error(`a block of headers of more than ${maxBlockBytes} bytes`);
    if (!(flag & flags.endHeaders)) return;
    this.#block = undefined;
    // Also those that nobody waits for: they may change the table.
    const headers = this.#reader.read(parts.length === 1 ? part : Buffer.concat(parts));
    const exchange = this.#exchanges.get(id);
    if (!exchange) return;
    exchange.receiveHeaders(headers);
    if (ends) this.#complete(exchange);
  }

  #data(flag: number, id: number, payload: Buffer): void {
    this.#unacknowledged += payload.length;
    if (this.#unacknowledged > windowBytes) throw new Error("more data than there was room for");
    if (this.#unacknowledged > windowBytes / 2) {
      this.#write(windowUpdate(0, this.#unacknowledged));
      this.#unacknowledged = 0;
    }
    const exchange = this.#exchanges.get(id);
    if (!exchange) return;
    exchange.unacknowledged += payload.length;
    exchange.receiveData(withoutPadding(flag, payload));
    if (flag & flags.endStream) return this.#complete(exchange);
    if (exchange.unacknowledged > windowBytes / 2) {
      this.#write(windowUpdate(id, exchange.unacknowledged));
      exchange.unacknowledged = 0;
    }
  }

  #complete(exchange: Exchange): void {
    // The answer is there, and the rest of the request is of no use to anybody.
    if (exchange.unsent > 0) this.#write(reset(exchange.id, errorCodes.cancel));
    exchange.complete();
    this.#forget(exchange);
  }

  #reset(id: number, code: number): void {
    const exchange = this.#exchanges.get(id);
    if (!exchange) return;
    exchange.fail(code === errorCodes.refused, new Error(`the application has reset the call (${code})`));
    this.#forget(exchange);
  }

  #settings(payload: Buffer): void {
    const { maxStreams, initialWindowBytes } = settingsOf(payload);
    this.#maxStreams = maxStreams ?? this.#maxStreams;
    this.#write(frame(frameTypes.settings, flags.ack, 0, Buffer.alloc(0)));
    if (initialWindowBytes !== undefined) {
      const more = initialWindowBytes - this.#initialWindow;
      this.#initialWindow = initialWindowBytes;
      for (const exchange of this.#exchanges.values()) {
        exchange.sendWindow += more;
        this.#continue(exchange);
      }
    }
    this.#beginWaiting();
  }

  #window(id: number, bytes: number): void {
    if (id !== 0) {
      const exchange = this.#exchanges.get(id);
      if (!exchange) return;
      exchange.sendWindow += bytes;
      return this.#continue(exchange);
    }
    this.#sendWindow += bytes;
    // Any of them may be one that waited.
    for (const exchange of this.#exchanges.values()) this.#continue(exchange);
  }

  /** What is under way may still be answered; what comes next gets a connection of its own. */
  #goAway(lastId: number): void {
    this.#leaving = true;
    const why = new Error("the application closes the connection");
    for (const exchange of [...this.#exchanges.values()]) {
      if (exchange.id <= lastId) continue;
      exchange.fail(true, why);
      this.#forget(exchange);
    }
    for (const exchange of [...this.#waiting]) {
      exchange.fail(true, why);
      this.#forget(exchange);
    }
    this.#endIfIdle();
  }

  #abort(exchange: Exchange): void {
    if (exchange.id !== 0) this.#write(reset(exchange.id, errorCodes.cancel));
    exchange.fail(false, exchange.signal.reason);
    this.#forget(exchange);
  }

  #forget(exchange: Exchange): void {
    this.#exchanges.delete(exchange.id);
    this.#waiting.delete(exchange);
    if (this.#waiting.size > 0) this.#beginWaiting();
    if (this.#leaving) this.#endIfIdle();
  }

  #beginWaiting(): void {
    for (const exchange of this.#waiting) {
      if (this.#exchanges.size >= this.#maxStreams || this.#leaving) return;
      this.#waiting.delete(exchange);
      this.#begin(exchange);
    }
  }

  #endIfIdle(): void {
    if (this.#exchanges.size === 0 && this.#waiting.size === 0) this.#socket.end();
  }

  #closed(): void {
    this.#leaving = true;
    const why = this.#failure ?? new Error("the connection ended before the answer");
    for (const exchange of [...this.#exchanges.values(), ...this.#waiting])
      exchange.fail(!this.#connected || exchange.id === 0, why);
    this.#exchanges.clear();
    this.#waiting.clear();
  }
}
