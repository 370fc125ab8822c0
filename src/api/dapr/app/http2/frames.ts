/** The frames of HTTP/2 (RFC 9113) as a client writes and knows them. */

/** The other side breaks the rules of HTTP/2: its connection cannot go on. */
export class Http2Error extends Error {
  override readonly name = "Http2Error";
}

/** Types of frames. */
export const frameTypes = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

/** Flags of frames. `endStream` is also the flag of an acknowledged ping or settings frame. */
export const flags = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

/** Codes of errors that a client sends or tells from others. */
export const errorCodes = { protocol: 1, refused: 7, cancel: 8 } as const;

/** Bytes before the payload of a frame. */
export const frameHeaderBytes = 9;
/** The longest payload that is sent and taken, in bytes: what RFC 9113 begins with. */
export const maxPayloadBytes = 16_384;
/** What a stream or connection may send to begin with, in bytes. */
export const firstWindowBytes = 65_535;
/** The largest window, in bytes. */
export const maxWindowBytes = 0x7fff_ffff;

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const settings = {
  headerTable: 1,
  enablePush: 2,
  maxStreams: 3,
  initialWindow: 4,
  maxHeaderList: 6,
} as const;
/** Of one setting, in bytes. */
export const settingBytes = 6;

/** What the other side asks for; undefined where it does not say. */
export interface PeerSettings {
  readonly maxStreams: number | undefined;
  readonly initialWindowBytes: number | undefined;
  /** The table for what we write may be no larger than that. */
  readonly headerTableBytes: number | undefined;
}

/** Writes the first nine bytes of a frame. */
export function writeFrameHeader(
  bytes: Buffer,
  at: number,
  { length, type, flag, stream }: { length: number; type: number; flag: number; stream: number },
): void {
  bytes[at] = length >> 16;
  bytes[at + 1] = length >> 8;
  bytes[at + 2] = length;
  bytes[at + 3] = type;
  bytes[at + 4] = flag;
  bytes.writeUInt32BE(stream, at + 5);
}

/** One frame. */
export function frame(type: number, flag: number, stream: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(frameHeaderBytes + payload.length);
  writeFrameHeader(bytes, 0, { length: payload.length, type, flag, stream });
  bytes.set(payload, frameHeaderBytes);
  return bytes;
}

/**
 * What a client says first: that it takes `windowBytes` on each stream and on the connection, and headers of
 * `maxHeadersBytes`.
 */
export function opening(windowBytes: number, maxHeadersBytes: number): Buffer {
  const own = Buffer.alloc(3 * settingBytes);
  own.writeUInt16BE(settings.enablePush, 0);
  own.writeUInt16BE(settings.initialWindow, settingBytes);
  own.writeUInt32BE(windowBytes, settingBytes + 2);
  own.writeUInt16BE(settings.maxHeaderList, 2 * settingBytes);
  own.writeUInt32BE(maxHeadersBytes, 2 * settingBytes + 2);
  return Buffer.concat([
    Buffer.from(preface),
    frame(frameTypes.settings, 0, 0, own),
    windowUpdate(0, windowBytes - firstWindowBytes),
  ]);
}

/** Allows the other side that many bytes more. */
export function windowUpdate(stream: number, bytes: number): Buffer {
  return frame(frameTypes.windowUpdate, 0, stream, number(bytes));
}

/** Ends a stream. */
export function reset(stream: number, code: number): Buffer {
  return frame(frameTypes.reset, 0, stream, number(code));
}

/** Reads the payload of a settings frame. Throws Http2Error. */
export function settingsOf(payload: Buffer): PeerSettings {
  let maxStreams: number | undefined;
  let initialWindowBytes: number | undefined;
  let headerTableBytes: number | undefined;
  for (let at = 0; at + settingBytes <= payload.length; at += settingBytes) {
    const value = payload.readUInt32BE(at + 2);
    const id = payload.readUInt16BE(at);
    if (id === settings.maxStreams) maxStreams = value;
    else if (id === settings.initialWindow) {
      if (value > maxWindowBytes) throw new Http2Error("a window that is larger than there is");
      initialWindowBytes = value;
    } else if (id === settings.headerTable) {
      // Of several, what counts is the smallest that there was.
      headerTableBytes = Math.min(value, headerTableBytes ?? value);
    }
  }
  return { maxStreams, initialWindowBytes, headerTableBytes };
}

/** The payload without its padding; `before` bytes that precede what counts go as well. Throws Http2Error. */
export function withoutPadding(flag: number, payload: Buffer, before = 0): Buffer {
  const padded = (flag & flags.padded) !== 0;
  const start = (padded ? 1 : 0) + before;
  const end = payload.length - (padded ? (payload[0] ?? 0) : 0);
  if (start > end) throw new Http2Error("a frame is all padding");
  return payload.subarray(start, end);
}

function number(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
