/** The frames that the other side sends, cut from its bytes and checked as far as one can without knowing the streams. */
import {
  flags,
  frameHeaderBytes,
  frameTypes,
  Http2Error,
  maxPayloadBytes,
  settingBytes,
  withoutPadding,
} from "./frames.ts";
import { maxHeadersBytes } from "./header-reader.ts";

/** Takes a frame. Of headers it is the whole block, whatever frames it came in; data still has its padding. */
export type TakeFrame = (type: number, flag: number, stream: number, payload: Buffer) => void;

/** Reads what one connection receives. */
export class FrameReader {
  readonly #take: TakeFrame;
  #greeted = false;
  #partial: Buffer | undefined;
  /** A block of headers that has not ended. `bytes` counts its frames, too: there may be many without anything in them. */
  #block:
    | { readonly stream: number; readonly flag: number; readonly parts: Buffer[]; bytes: number }
    | undefined;

  constructor(take: TakeFrame) {
    this.#take = take;
  }

  /** Throws Http2Error, and what `take` throws; then nothing more can be read. */
  read(received: Buffer): void {
    let bytes = this.#partial ? Buffer.concat([this.#partial, received]) : received;
    while (bytes.length >= frameHeaderBytes) {
      const type = bytes[3]!;
      if (!this.#greeted && type !== frameTypes.settings) throw new Http2Error("no HTTP/2 is spoken there");
      this.#greeted = true;
      const length = bytes.readUIntBE(0, 3);
      if (length > maxPayloadBytes) throw new Http2Error(`a frame of ${length} bytes`);
      const end = frameHeaderBytes + length;
      if (bytes.length < end) break;
      this.#frame(
        type,
        bytes[4]!,
        bytes.readUInt32BE(5) & 0x7fff_ffff,
        bytes.subarray(frameHeaderBytes, end),
      );
      bytes = bytes.subarray(end);
    }
    this.#partial = bytes.length > 0 ? bytes : undefined;
  }

  #frame(type: number, flag: number, stream: number, payload: Buffer): void {
    if (this.#block && type !== frameTypes.continuation) throw new Http2Error("headers that are broken off");
    if (!isSound(type, flag, stream, payload.length)) throw new Http2Error(`a broken frame of type ${type}`);
    if (type === frameTypes.headers) {
      const part = withoutPadding(flag, payload, flag & flags.priority ? 5 : 0);
      if (flag & flags.endHeaders) return this.#take(type, flag, stream, part);
      this.#block = { stream, flag, parts: [part], bytes: frameHeaderBytes + part.length };
      return;
    }
    if (type === frameTypes.continuation) return this.#continuation(flag, stream, payload);
    this.#take(type, flag, stream, payload);
  }

  #continuation(flag: number, stream: number, part: Buffer): void {
    const block = this.#block;
    if (block?.stream !== stream) throw new Http2Error("headers without a beginning");
    block.parts.push(part);
    block.bytes += frameHeaderBytes + part.length;
    if (block.bytes > maxHeadersBytes)
      throw new Http2Error(`a block of headers of more than ${maxHeadersBytes} bytes`);
    if (!(flag & flags.endHeaders)) return;
    this.#block = undefined;
    this.#take(frameTypes.headers, block.flag, stream, Buffer.concat(block.parts));
  }
}

/** Whether a frame has the length, and belongs where those of its type do. */
function isSound(type: number, flag: number, stream: number, length: number): boolean {
  switch (type) {
    case frameTypes.data:
    case frameTypes.headers:
      return stream !== 0;
    case frameTypes.reset:
      return stream !== 0 && length === 4;
    case frameTypes.settings:
      return stream === 0 && (flag & flags.ack ? length === 0 : length % settingBytes === 0);
    case frameTypes.ping:
      return stream === 0 && length === 8;
    case frameTypes.goAway:
      return stream === 0 && length >= 8;
    case frameTypes.windowUpdate:
      return length === 4;
    default:
      return true;
  }
}
