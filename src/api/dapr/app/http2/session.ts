/** One connection of HTTP/2, from its beginning to its end. */
import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { Exchange } from "./exchange.ts";
import { FrameReader } from "./frame-reader.ts";
import {
  errorCodes,
  firstWindowBytes,
  flags,
  frame,
  frameTypes,
  Http2Error,
  maxWindowBytes,
  opening,
  reset,
  settingsOf,
  windowUpdate,
  withoutPadding,
} from "./frames.ts";
import { HeaderReader, maxHeadersBytes } from "./header-reader.ts";
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
/** Streams at once as long as the other side has not said how many it takes. */
const firstMaxStreams = 100;
/** Streams are numbered up to 2^31; long before that there is a new connection. */
const maxStreamId = 2 ** 30;
/** Answers to pings and settings that the other side has not taken: who asks without reading gets no more. */
const maxUntakenReplies = 1000;
/** A connection that says nothing for so long while there are calls gets no more when one of them is given up. */
const silentMs = 5000;
/** An idle host is asked whether it is still there, by TCP. As Go has it, in which daprd is written. */
const keepAliveMs = 15_000;
/** What the other side has to end a connection that we have ended. */
const lingerMs = 5000;
/** What is told of the text with which the other side ends a connection, in characters. */
const maxGoodbyeLength = 100;
/** Says that the table for what we write has no room: we put nothing into it. (RFC 7541, section 6.3) */
const noTable = Buffer.from([0x20]);
const noPayload = Buffer.alloc(0);

/** See the head of this file. */
export class Session {
  readonly #socket: Socket;
  readonly #writer: HeaderWriter;
  readonly #frames = new FrameReader((type, flag, id, payload) => this.#take(type, flag, id, payload));
  readonly #reader = new HeaderReader();
  readonly #lastStreamId: number;
  readonly #exchanges = new Map<number, Exchange>();
  /** Those that the other side does not take yet; who sends them limits how many. */
  readonly #waiting = new Set<Exchange>();
  #nextId = 1;
  #out: Buffer[] = [];
  #maxStreams = firstMaxStreams;
  #hasSettings = false;
  /** The next block of headers has to say that there is no table. */
  #disclaimsTable = false;
  /** Answers to pings and settings: all that are not taken, and those of them in `#out`. */
  #untakenReplies = 0;
  #repliesInOut = 0;
  /** When there was something from the other side at last, or the only call began. */
  #heardAtMs = performance.now();
  #initialWindow = firstWindowBytes;
  #sendWindow = firstWindowBytes;
  #unacknowledged = 0;
  #connected = false;
  #leaving = false;
  #failure: Error | undefined;

  /** After the stream `lastStreamId` it takes no more requests. */
  constructor({ host, port, tls }: Http2Options, writer: HeaderWriter, lastStreamId = maxStreamId) {
    this.#writer = writer;
    this.#lastStreamId = lastStreamId;
    const servername = isIP(host) ? "" : host;
    this.#socket = tls
      ? connectTls({ host, port, servername, ALPNProtocols: ["h2"], rejectUnauthorized: false })
      : connect({ host, port });
    this.#socket.setNoDelay(true);
    this.#socket.setKeepAlive(true, keepAliveMs);
    this.#socket.once(tls ? "secureConnect" : "connect", () => {
      this.#connected = true;
    });
    this.#socket.on("data", (bytes: Buffer) => this.#receive(bytes));
    this.#socket.on("error", (error) => {
      this.#failure ??= error;
    });
    this.#socket.on("end", () => this.#socket.destroy());
    this.#socket.on("close", () => this.#closed());
    this.#write(opening(windowBytes, maxHeadersBytes));
  }

  /** Whether it takes no more requests. */
  get leaving(): boolean {
    return this.#leaving || this.#socket.destroyed;
  }

  /** Whether it is gone. */
  get ended(): boolean {
    return this.#socket.destroyed;
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
    exchange.sendWindow = this.#initialWindow;
    if (this.#exchanges.size === 0) this.#heardAtMs = performance.now();
    this.#exchanges.set(exchange.id, exchange);
    const { head, headers } = exchange.request;
    const block = [head, this.#writer.block(headers)];
    if (this.#disclaimsTable) block.unshift(noTable);
    this.#disclaimsTable = false;
    const { bytes, body } = exchange.begin(block, this.#sendWindow);
    this.#sendWindow -= body;
    this.#write(bytes);
    if (exchange.unsent > 0) this.#continue(exchange);
    if (this.#nextId > this.#lastStreamId) this.#leave("the connection has had its calls");
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
    if (out.length === 0 || this.#socket.destroyed) return;
    const replies = this.#repliesInOut;
    this.#repliesInOut = 0;
    this.#socket.write(
      out.length === 1 ? out[0]! : Buffer.concat(out),
      replies === 0
        ? undefined
        : () => {
            this.#untakenReplies -= replies;
          },
    );
  }

  /** Answers a ping or settings. */
  #reply(type: number, payload: Buffer): void {
    this.#repliesInOut += 1;
    this.#untakenReplies += 1;
    if (this.#untakenReplies > maxUntakenReplies) throw new Http2Error("pings and settings without end");
    this.#write(frame(type, flags.ack, 0, payload));
  }

  #receive(received: Buffer): void {
    this.#heardAtMs = performance.now();
    try {
      this.#frames.read(received);
    } catch (error) {
      this.#failure ??= error as Error;
      this.#socket.destroy();
    }
  }

  #take(type: number, flag: number, id: number, payload: Buffer): void {
    switch (type) {
      case frameTypes.data:
        return this.#data(flag, id, payload);
      case frameTypes.headers:
        return this.#headers(flag, id, payload);
      case frameTypes.reset:
        return this.#reset(id, payload.readUInt32BE(0));
      case frameTypes.settings:
        if (!(flag & flags.ack)) this.#settings(payload);
        return;
      case frameTypes.ping:
        if (!(flag & flags.ack)) this.#reply(frameTypes.ping, payload);
        return;
      case frameTypes.windowUpdate:
        return this.#window(id, payload.readUInt32BE(0) & maxWindowBytes);
      case frameTypes.goAway:
        return this.#goAway(payload);
      case frameTypes.pushPromise:
        throw new Http2Error("a push that nobody asked for");
    }
  }

  #headers(flag: number, id: number, block: Buffer): void {
    // Also those that nobody waits for: they may change the table.
    const headers = this.#reader.read(block);
    const exchange = this.#exchangeOf(id);
    if (!exchange) return;
    const ends = (flag & flags.endStream) !== 0;
    if (!exchange.receiveHeaders(headers, ends)) return this.#break(exchange, "headers that no answer has");
    if (ends) this.#complete(exchange);
  }

  #data(flag: number, id: number, payload: Buffer): void {
    this.#unacknowledged += payload.length;
    if (this.#unacknowledged > windowBytes / 2) {
      this.#write(windowUpdate(0, this.#unacknowledged));
      this.#unacknowledged = 0;
    }
    const exchange = this.#exchangeOf(id);
    const data = withoutPadding(flag, payload);
    if (!exchange) return;
    exchange.unacknowledged += payload.length;
    if (!exchange.receiveData(data)) return this.#break(exchange, "an answer that begins with its body");
    if (flag & flags.endStream) return this.#complete(exchange);
    if (exchange.unacknowledged > windowBytes / 2) {
      this.#write(windowUpdate(id, exchange.unacknowledged));
      exchange.unacknowledged = 0;
    }
  }

  /** Undefined: it has its answer, or was given up. Throws Http2Error when there has never been such a stream. */
  #exchangeOf(id: number): Exchange | undefined {
    if (id >= this.#nextId || id % 2 === 0) throw new Http2Error(`there is no stream ${id}`);
    return this.#exchanges.get(id);
  }

  /** Ends a call whose stream breaks the rules; the connection is not concerned. */
  #break(exchange: Exchange, why: string): void {
    this.#write(reset(exchange.id, errorCodes.protocol));
    exchange.fail(false, new Http2Error(why));
    this.#forget(exchange);
  }

  #complete(exchange: Exchange): void {
    // The answer is there, and the rest of the request is of no use to anybody.
    if (exchange.unsent > 0) this.#write(reset(exchange.id, errorCodes.cancel));
    exchange.complete();
    this.#forget(exchange);
  }

  #reset(id: number, code: number): void {
    const exchange = this.#exchangeOf(id);
    if (!exchange) return;
    exchange.fail(code === errorCodes.refused, new Error(`the application has reset the call (${code})`));
    this.#forget(exchange);
  }

  #settings(payload: Buffer): void {
    const { maxStreams, initialWindowBytes, headerTableBytes } = settingsOf(payload);
    this.#maxStreams = maxStreams ?? (this.#hasSettings ? this.#maxStreams : Number.POSITIVE_INFINITY);
    this.#hasSettings = true;
    // What is smaller than the table was must be answered: by the default there is one.
    if (headerTableBytes !== undefined) this.#disclaimsTable = true;
    this.#reply(frameTypes.settings, noPayload);
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
      const exchange = this.#exchangeOf(id);
      if (!exchange) return;
      exchange.sendWindow += bytes;
      if (bytes === 0 || exchange.sendWindow > maxWindowBytes)
        return this.#break(exchange, "a window that opens by nothing, or too far");
      return this.#continue(exchange);
    }
    this.#sendWindow += bytes;
    if (bytes === 0 || this.#sendWindow > maxWindowBytes)
      throw new Http2Error("a window that opens by nothing, or too far");
    // Any of them may be one that waited.
    for (const exchange of this.#exchanges.values()) this.#continue(exchange);
  }

  /** What is under way may still be answered; what the other side has not looked at is for another connection. */
  #goAway(payload: Buffer): void {
    const lastId = payload.readUInt32BE(0) & 0x7fff_ffff;
    const code = payload.readUInt32BE(4);
    const text = payload.toString("latin1", 8, 8 + maxGoodbyeLength).replace(/[^ -~]/g, "?");
    if (code !== 0)
      this.#failure ??= new Error(`the application ends the connection: error ${code}: ${text}`);
    const why = "the application closes the connection";
    for (const exchange of [...this.#exchanges.values()]) {
      if (exchange.id <= lastId) continue;
      exchange.fail(true, new Error(why));
      this.#exchanges.delete(exchange.id);
    }
    this.#leave(why);
  }

  /** Takes no more requests, those that wait neither; what is under way may still be answered. */
  #leave(why: string): void {
    this.#leaving = true;
    for (const exchange of this.#waiting) exchange.fail(true, new Error(why));
    this.#waiting.clear();
    this.#endIfIdle();
  }

  #abort(exchange: Exchange): void {
    if (exchange.id !== 0) this.#write(reset(exchange.id, errorCodes.cancel));
    exchange.fail(false, exchange.signal.reason);
    // The host may be gone, or its program stopped: then nothing that is sent here is ever answered.
    if (exchange.id !== 0 && performance.now() - this.#heardAtMs > silentMs)
      this.#leave("the application says nothing");
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
    if (this.#exchanges.size > 0) return;
    this.#flush();
    this.#socket.end();
    this.#socket.setTimeout(lingerMs, () => this.#socket.destroy());
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
