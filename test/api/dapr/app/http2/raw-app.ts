/** An application that speaks frames, and may break the rules that Node's server keeps. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { Http2Connection } from "../../../../../src/api/dapr/app/http2/connection.ts";
import { flags, frame, frameTypes } from "../../../../../src/api/dapr/app/http2/frames.ts";
import { HeaderWriter } from "../../../../../src/api/dapr/app/http2/header-writer.ts";

/** A frame that the client has sent. */
export interface ReceivedFrame {
  readonly type: number;
  readonly flag: number;
  readonly stream: number;
  readonly payload: Buffer;
}

const prefaceBytes = 24;
const writer = new HeaderWriter();

/** Of a stream: headers that end it, unless `flag` says something else. */
export function headersFrame(
  stream: number,
  headers: Readonly<Record<string, string>>,
  flag: number = flags.endStream | flags.endHeaders,
): Buffer {
  return frame(frameTypes.headers, flag, stream, writer.block(headers));
}

/** Settings, by their numbers. */
export function settingsFrame(values: Readonly<Record<number, number>> = {}): Buffer {
  const parts = Object.entries(values).map(([id, value]) => {
    const bytes = Buffer.alloc(6);
    bytes.writeUInt16BE(Number(id));
    bytes.writeUInt32BE(value, 2);
    return bytes;
  });
  return frame(frameTypes.settings, 0, 0, Buffer.concat(parts));
}

/** Four bytes, as the payload of a reset or a window update. */
export function word(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Listens; `answer` sees each frame, after settings were sent unless `greeting` is something else. */
export class RawApp {
  readonly received: ReceivedFrame[] = [];
  readonly sockets: Socket[] = [];
  readonly #greeting: Buffer;
  readonly #answer: (received: ReceivedFrame, socket: Socket) => void;
  readonly #server = createServer((socket) => this.#accept(socket));
  readonly #connections: Http2Connection[] = [];

  constructor(answer: (received: ReceivedFrame, socket: Socket) => void, greeting = settingsFrame()) {
    this.#answer = answer;
    this.#greeting = greeting;
  }

  async listen(): Promise<this> {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    return this;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** A client, and how it calls. */
  client(maxAnswerBytes = 4 * 1024 * 1024) {
    const options = { host: "127.0.0.1", port: this.port, tls: false, maxAnswerBytes };
    const connection = new Http2Connection(options);
    this.#connections.push(connection);
    return (
      path = "/",
      {
        headers = {},
        body = undefined as Uint8Array | undefined,
        signal = new AbortController().signal,
      } = {},
    ) => connection.request({ head: connection.head("POST", path, {}), headers, body }, signal);
  }

  closeClients(): void {
    for (const connection of this.#connections) connection.close();
  }

  close(): void {
    this.closeClients();
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }

  #accept(socket: Socket): void {
    this.sockets.push(socket);
    socket.on("error", () => {});
    socket.write(this.#greeting);
    let bytes = Buffer.alloc(0);
    let hasPreface = false;
    socket.on("data", (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (!hasPreface && bytes.length >= prefaceBytes) {
        hasPreface = true;
        bytes = bytes.subarray(prefaceBytes);
      }
      while (hasPreface && bytes.length >= 9 && bytes.length >= 9 + bytes.readUIntBE(0, 3)) {
        const end = 9 + bytes.readUIntBE(0, 3);
        const one = {
          type: bytes[3]!,
          flag: bytes[4]!,
          stream: bytes.readUInt32BE(5),
          payload: bytes.subarray(9, end),
        };
        bytes = bytes.subarray(end);
        this.received.push(one);
        this.#answer(one, socket);
      }
    });
  }
}
