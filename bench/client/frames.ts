/** The few HTTP/2 frames (RFC 9113) that a load client sends and reads, and the headers of a gRPC call. */

/** Types of frames. */
export const frameTypes = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Flags of frames. `endStream` is also the flag of an acknowledged ping or settings frame. */
export const flags = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8 } as const;

/** Bytes before the payload of a frame. */
export const frameHeaderBytes = 9;
/** The longest payload that a peer takes unless it says otherwise. */
export const maxFramePayload = 16_384;

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const initialWindowSetting = 4;
const enablePushSetting = 2;
/** What RFC 9113 gives a connection to begin with. */
export const defaultWindow = 65_535;

/** One frame. */
export function frame(type: number, flag: number, stream: number, payload: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + payload.length);
  writeFrameHeader(bytes, 0, payload.length, type, flag, stream);
  payload.copy(bytes, frameHeaderBytes);
  return bytes;
}

/** Writes the first nine bytes of a frame. */
export function writeFrameHeader(
  bytes: Buffer,
  at: number,
  length: number,
  type: number,
  flag: number,
  stream: number,
): void {
  bytes.writeUIntBE(length, at, 3);
  bytes[at + 3] = type;
  bytes[at + 4] = flag;
  bytes.writeUInt32BE(stream, at + 5);
}

/** What a client says first: that it takes `windowBytes` on each stream, and on the connection. */
export function opening(windowBytes: number): Buffer {
  const settings = Buffer.alloc(12);
  settings.writeUInt16BE(enablePushSetting, 0);
  settings.writeUInt32BE(0, 2);
  settings.writeUInt16BE(initialWindowSetting, 6);
  settings.writeUInt32BE(windowBytes, 8);
  return Buffer.concat([
    Buffer.from(preface),
    frame(frameTypes.settings, 0, 0, settings),
    windowUpdate(0, windowBytes - defaultWindow),
  ]);
}

/** Allows the peer that many bytes more. */
export function windowUpdate(stream: number, bytes: number): Buffer {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt32BE(bytes);
  return frame(frameTypes.windowUpdate, 0, stream, payload);
}

/** The initial window of streams in a settings frame; undefined when it does not say. */
export function initialWindowOf(settings: Buffer): number | undefined {
  for (let at = 0; at + 6 <= settings.length; at += 6) {
    if (settings.readUInt16BE(at) === initialWindowSetting) return settings.readUInt32BE(at + 2);
  }
  return undefined;
}

/** The headers of gRPC requests, compressed (RFC 7541) as gRPC clients do: by number from the second time on. */
export class RequestHeaders {
  readonly #authority: string;
  /** Headers in the peer's dynamic table, in the order in which they went in. */
  readonly #known: string[] = [];

  constructor(authority: string) {
    this.#authority = authority;
  }

  /** The header block of a call. What is new goes into the peer's table, so it must be sent, and in this order. */
  block(path: string): Buffer {
    const parts = [
      // POST and http, from the static table.
      Buffer.from([0x83, 0x86]),
      this.#header(":path", path, 4),
      this.#header(":authority", this.#authority, 1),
      this.#header("te", "trailers", 0),
      this.#header("content-type", "application/grpc", 31),
      this.#header("user-agent", "outrider-bench/1", 58),
    ];
    return Buffer.concat(parts);
  }

  #header(name: string, value: string, nameIndex: number): Buffer {
    const entry = `${name}\n${value}`;
    const at = this.#known.indexOf(entry);
    if (at >= 0) {
      const index = 62 + this.#known.length - 1 - at;
      if (index >= 127) throw new Error("too many different headers on one connection");
      return Buffer.from([0x80 | index]);
    }
    this.#known.push(entry);
    const first =
      nameIndex > 0 ? Buffer.from([0x40 | nameIndex]) : Buffer.concat([Buffer.from([0x40]), text(name)]);
    return Buffer.concat([first, text(value)]);
  }
}

/** A string without Huffman coding. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  if (bytes.length >= 127) throw new Error(`"${value}" is too long for a header of the load client`);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}
