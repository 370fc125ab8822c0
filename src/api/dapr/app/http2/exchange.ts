/** One request on a connection, and its answer. */
import { AppUnreachable } from "../channel.ts";
import { flags, frame, frameHeaderBytes, frameTypes, maxPayloadBytes, writeFrameHeader } from "./frames.ts";
import type { Headers } from "./header-reader.ts";

/** An answer. */
export interface Http2Answer {
  /** `:status` among them. */
  readonly headers: Headers;
  /** Empty without any. */
  readonly trailers: Headers;
  /** Undefined: it was longer than is kept. */
  readonly body: Buffer | undefined;
}

/** A request. */
export interface Http2Request {
  /** The headers that are the same in many calls, as `Http2Connection.head` makes them. */
  readonly head: Buffer;
  /** The other headers; names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | undefined;
}

const none: Headers = Object.freeze({});

/** See the head of this file. */
export class Exchange {
  /** Of its stream; 0 until it has one. */
  id = 0;
  readonly request: Http2Request;
  readonly signal: AbortSignal;
  #listener: (() => void) | undefined;
  readonly promise: Promise<Http2Answer>;
  /** Bytes that may still be sent. */
  sendWindow = 0;
  /** Bytes received that the other side has not been given back. */
  unacknowledged = 0;
  readonly #maxAnswerBytes: number;
  #resolve!: (answer: Http2Answer) => void;
  #reject!: (error: unknown) => void;
  #sent = 0;
  #headers: Headers | undefined;
  #trailers = none;
  /** The body: its bytes are the first of these. */
  #body: Buffer = Buffer.alloc(0);
  #bytes = 0;

  constructor(request: Http2Request, signal: AbortSignal, maxAnswerBytes: number) {
    this.request = request;
    this.signal = signal;
    this.#maxAnswerBytes = maxAnswerBytes;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Has something done when the signal aborts before there is an answer. */
  onAbort(listener: () => void): void {
    this.#listener = listener;
    this.signal.addEventListener("abort", listener, { once: true });
  }

  /** Bytes of the body that have not been sent. */
  get unsent(): number {
    return (this.request.body?.byteLength ?? 0) - this.#sent;
  }

  /** The headers, and as much of the body as `window` and its own window allow; with the bytes of body in it. */
  begin(block: readonly Uint8Array[], window: number): { readonly bytes: Buffer; readonly body: number } {
    const headerBytes = block.reduce((sum, part) => sum + part.byteLength, 0);
    if (headerBytes > maxPayloadBytes) return { bytes: this.#longHeaders(Buffer.concat(block)), body: 0 };
    const { body } = this.request;
    const length = Math.min(this.unsent, window, this.sendWindow, maxPayloadBytes);
    const hasData = length > 0;
    const bytes = Buffer.allocUnsafe(
      frameHeaderBytes + headerBytes + (hasData ? frameHeaderBytes + length : 0),
    );
    const flag = flags.endHeaders | (this.unsent === 0 ? flags.endStream : 0);
    writeFrameHeader(bytes, 0, { length: headerBytes, type: frameTypes.headers, flag, stream: this.id });
    let at = frameHeaderBytes;
    for (const part of block) {
      bytes.set(part, at);
      at += part.byteLength;
    }
    if (hasData) this.#writeData(bytes, at, body!, length);
    return { bytes, body: length };
  }

  /** Headers that need more than one frame; the body follows by itself. */
  #longHeaders(block: Buffer): Buffer {
    const frames: Buffer[] = [];
    for (let at = 0; at < block.length; at += maxPayloadBytes) {
      const end = at + maxPayloadBytes;
      const ends = end >= block.length ? flags.endHeaders : 0;
      const type = at === 0 ? frameTypes.headers : frameTypes.continuation;
      const flag = ends | (at === 0 && this.unsent === 0 ? flags.endStream : 0);
      frames.push(frame(type, flag, this.id, block.subarray(at, end)));
    }
    return Buffer.concat(frames);
  }

  /** The next frame of the body; undefined when the windows are shut. */
  next(window: number): { readonly bytes: Buffer; readonly body: number } | undefined {
    const length = Math.min(this.unsent, window, this.sendWindow, maxPayloadBytes);
    if (length <= 0) return undefined;
    const bytes = Buffer.allocUnsafe(frameHeaderBytes + length);
    this.#writeData(bytes, 0, this.request.body!, length);
    return { bytes, body: length };
  }

  #writeData(bytes: Buffer, at: number, body: Uint8Array, length: number): void {
    const flag = length === this.unsent ? flags.endStream : 0;
    writeFrameHeader(bytes, at, { length, type: frameTypes.data, flag, stream: this.id });
    bytes.set(
      length === body.byteLength ? body : body.subarray(this.#sent, this.#sent + length),
      at + frameHeaderBytes,
    );
    this.#sent += length;
    this.sendWindow -= length;
  }

  /** The first headers of the answer, or those behind it. False: such an answer there is not. */
  receiveHeaders(headers: Headers, ends: boolean): boolean {
    const status = headers[":status"];
    if (this.#headers) {
      this.#trailers = headers;
      return ends && status === undefined;
    }
    if (status === undefined || !/^[1-9]\d\d$/.test(status)) return false;
    // What is only a preliminary answer says nothing.
    if (status.startsWith("1")) return !ends;
    this.#headers = headers;
    return true;
  }

  /** False: the answer has not begun. */
  receiveData(data: Buffer): boolean {
    if (!this.#headers) return false;
    const before = this.#bytes;
    this.#bytes += data.byteLength;
    if (this.#bytes > this.#maxAnswerBytes) this.#body = Buffer.alloc(0);
    else if (before === 0) this.#body = data;
    else if (data.byteLength > 0) {
      // Not a list of what came: bytes that come one by one would each be an object.
      if (this.#bytes > this.#body.byteLength) {
        const grown = Buffer.allocUnsafe(this.#bytes * 2);
        this.#body.copy(grown, 0, 0, before);
        this.#body = grown;
      }
      this.#body.set(data, before);
    }
    return true;
  }

  /** The other side has said everything. */
  complete(): void {
    if (!this.#headers) return this.fail(false, new Error("an answer without headers"));
    this.#unlisten();
    const body = this.#bytes > this.#maxAnswerBytes ? undefined : this.#body.subarray(0, this.#bytes);
    this.#resolve({ headers: this.#headers, trailers: this.#trailers, body });
  }

  /** There will be no answer. `unseen`: the other side has not looked at the request. */
  fail(unseen: boolean, why: unknown): void {
    this.#unlisten();
    this.#reject(this.signal.aborted ? this.signal.reason : new AppUnreachable(unseen, why));
  }

  #unlisten(): void {
    if (this.#listener) this.signal.removeEventListener("abort", this.#listener);
  }
}
