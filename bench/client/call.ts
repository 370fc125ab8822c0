/** One call of the load client: gRPC messages as bytes, in both directions. */
import { flags, frame, frameHeaderBytes, frameTypes, maxFramePayload, writeFrameHeader } from "./frames.ts";

/** What a call needs of its connection. */
export interface CallOwner {
  /** Sends bytes that no window holds back. */
  write(bytes: Buffer): void;
  /** Bytes that the connection may still send. */
  sendWindow: number;
}

/** Bytes before a gRPC message: not compressed, and its length. */
const prefixBytes = 5;

/** See the head of this file. */
export class Call {
  readonly id: number;
  /** Called with each message; the bytes are a view, good until the callback returns. */
  onMessage: (message: Buffer) => void = () => {};
  /** Called once, when the server has ended the call or the connection has broken. */
  onEnd: (reset: boolean) => void = () => {};
  /** Bytes that this call may still send. */
  sendWindow: number;
  /** Bytes received that the server has not been given back. */
  unacknowledged = 0;
  readonly #owner: CallOwner;
  /** Payloads that wait for a window. */
  readonly #waiting: { readonly payload: Buffer; readonly last: boolean }[] = [];
  #partial: Buffer | undefined;

  constructor(id: number, owner: CallOwner, sendWindow: number) {
    this.id = id;
    this.#owner = owner;
    this.sendWindow = sendWindow;
  }

  /** Sends a message. */
  send(message: Uint8Array, last = false): void {
    const bytes = Buffer.allocUnsafe(prefixBytes + message.length);
    bytes[0] = 0;
    bytes.writeUInt32BE(message.length, 1);
    bytes.set(message, prefixBytes);
    for (let at = 0; at < bytes.length; at += maxFramePayload) {
      const payload = bytes.subarray(at, at + maxFramePayload);
      this.#waiting.push({ payload, last: last && at + maxFramePayload >= bytes.length });
    }
    this.flush();
  }

  /** Has nothing more to say. */
  end(): void {
    this.#waiting.push({ payload: Buffer.alloc(0), last: true });
    this.flush();
  }

  /** Ends the call without waiting for anything. */
  cancel(): void {
    const cancelled = Buffer.from([0, 0, 0, 8]);
    this.#owner.write(frame(frameTypes.reset, 0, this.id, cancelled));
  }

  /** Sends what the windows allow. */
  flush(): void {
    while (this.#waiting.length > 0) {
      const { payload, last } = this.#waiting[0]!;
      if (payload.length > this.sendWindow || payload.length > this.#owner.sendWindow) return;
      this.#waiting.shift();
      this.sendWindow -= payload.length;
      this.#owner.sendWindow -= payload.length;
      const bytes = Buffer.allocUnsafe(frameHeaderBytes + payload.length);
      writeFrameHeader(bytes, 0, payload.length, frameTypes.data, last ? flags.endStream : 0, this.id);
      payload.copy(bytes, frameHeaderBytes);
      this.#owner.write(bytes);
    }
  }

  /** Takes the payload of a data frame, and hands on the messages that are whole. */
  receive(payload: Buffer): void {
    let bytes = this.#partial ? Buffer.concat([this.#partial, payload]) : payload;
    while (bytes.length >= prefixBytes) {
      const end = prefixBytes + bytes.readUInt32BE(1);
      if (bytes.length < end) break;
      this.onMessage(bytes.subarray(prefixBytes, end));
      bytes = bytes.subarray(end);
    }
    this.#partial = bytes.length > 0 ? Buffer.from(bytes) : undefined;
  }
}
