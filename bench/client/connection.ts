/**
 * A gRPC client that costs little: HTTP/2 by hand, messages as bytes.
 *
 * On a machine with few cores a client that costs as much as the server halves
 * what the server can show. This one costs a tenth of a grpc-js client. It takes
 * the server's word for what it does not check: it reads no header, so a call
 * that ends without a message has failed, and why is in the server's log.
 */
import { connect, type Socket } from "node:net";
import { Call, type CallOwner } from "./call.ts";
import {
  defaultWindow,
  flags,
  frame,
  frameHeaderBytes,
  frameTypes,
  initialWindowOf,
  opening,
  RequestHeaders,
  windowUpdate,
} from "./frames.ts";

/** What the server may send ahead, on a call and on the connection. */
const windowBytes = 1024 * 1024;

/** See the head of this file. */
export class Connection implements CallOwner {
  readonly #socket: Socket;
  readonly #headers: RequestHeaders;
  readonly #calls = new Map<number, Call>();
  #nextId = 1;
  #out: Buffer[] = [];
  #partial: Buffer | undefined;
  #unacknowledged = 0;
  #initialWindow = defaultWindow;
  sendWindow = defaultWindow;
  #closing = false;

  private constructor(socket: Socket, authority: string) {
    this.#socket = socket;
    this.#headers = new RequestHeaders(authority);
    socket.on("data", (bytes: Buffer) => this.#read(bytes));
    socket.on("close", () => this.#closed());
    socket.on("error", () => {});
    this.write(opening(windowBytes));
  }

  /** Connects to a port of this machine. */
  static open(port: number): Promise<Connection> {
    const socket = connect({ host: "127.0.0.1", port, noDelay: true });
    return new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.once("connect", () => resolve(new Connection(socket, `127.0.0.1:${port}`)));
    });
  }

  /** Calls a method that takes one message and gives one. Rejects when none comes. */
  call(path: string, message: Uint8Array): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const call = this.start(path);
      let answer: Buffer | undefined;
      call.onMessage = (bytes) => {
        answer = bytes;
      };
      call.onEnd = () => {
        if (answer) resolve(answer);
        else reject(new Error(`${path} has failed: it ended without an answer`));
      };
      call.send(message, true);
    });
  }

  /** Starts a call of any kind. */
  start(path: string): Call {
    if (this.#closing) throw new Error("the connection is closed");
    const call = new Call(this.#nextId, this, this.#initialWindow);
    this.#nextId += 2;
    this.#calls.set(call.id, call);
    this.write(frame(frameTypes.headers, flags.endHeaders, call.id, this.#headers.block(path)));
    return call;
  }

  /** Closes at once; open calls end. */
  close(): void {
    this.#closing = true;
    this.#socket.destroy();
  }

  /** Sends with what else is written in this turn of the event loop. */
  write(bytes: Buffer): void {
    if (this.#out.length === 0) setImmediate(() => this.#flush());
    this.#out.push(bytes);
  }

  #flush(): void {
    const out = this.#out;
    this.#out = [];
    if (!this.#socket.destroyed) this.#socket.write(out.length === 1 ? out[0]! : Buffer.concat(out));
  }

  #read(received: Buffer): void {
    let bytes = this.#partial ? Buffer.concat([this.#partial, received]) : received;
    while (bytes.length >= frameHeaderBytes) {
      const end = frameHeaderBytes + bytes.readUIntBE(0, 3);
      if (bytes.length < end) break;
      const id = bytes.readUInt32BE(5) & 0x7fff_ffff;
      this.#take(bytes[3]!, bytes[4]!, id, bytes.subarray(frameHeaderBytes, end));
      bytes = bytes.subarray(end);
    }
    this.#partial = bytes.length > 0 ? bytes : undefined;
  }

  #take(type: number, flag: number, id: number, payload: Buffer): void {
    switch (type) {
      case frameTypes.data:
        return this.#data(flag, id, payload);
      case frameTypes.headers:
        if (flag & flags.endStream) this.#ended(id, false);
        return;
      case frameTypes.reset:
        return this.#ended(id, true);
      case frameTypes.settings:
        return this.#settings(flag, payload);
      case frameTypes.ping:
        if (!(flag & flags.ack)) this.write(frame(frameTypes.ping, flags.ack, 0, payload));
        return;
      case frameTypes.windowUpdate:
        return this.#window(id, payload.readUInt32BE(0));
      case frameTypes.goAway:
        this.#closing = true;
        return;
      case frameTypes.continuation:
        throw new Error("the load client reads no headers that are longer than a frame");
    }
  }

  #data(flag: number, id: number, payload: Buffer): void {
    if (flag & flags.padded) throw new Error("the load client reads no padded frames");
    this.#unacknowledged += payload.length;
    if (this.#unacknowledged > windowBytes / 2) {
      this.write(windowUpdate(0, this.#unacknowledged));
      this.#unacknowledged = 0;
    }
    const call = this.#calls.get(id);
    if (!call) return;
    call.unacknowledged += payload.length;
    if (call.unacknowledged > windowBytes / 2) {
      this.write(windowUpdate(id, call.unacknowledged));
      call.unacknowledged = 0;
    }
    call.receive(payload);
    if (flag & flags.endStream) this.#ended(id, false);
  }

  #settings(flag: number, payload: Buffer): void {
    if (flag & flags.ack) return;
    const window = initialWindowOf(payload);
    if (window !== undefined) {
      for (const call of this.#calls.values()) call.sendWindow += window - this.#initialWindow;
      this.#initialWindow = window;
    }
    this.write(frame(frameTypes.settings, flags.ack, 0, Buffer.alloc(0)));
  }

  #window(id: number, bytes: number): void {
    if (id !== 0) {
      const call = this.#calls.get(id);
      if (!call) return;
      call.sendWindow += bytes;
      call.flush();
      return;
    }
    this.sendWindow += bytes;
    // Any of them may be one that waited.
    for (const call of this.#calls.values()) {
      if (this.sendWindow <= 0) break;
      call.flush();
    }
  }

  #ended(id: number, reset: boolean): void {
    const call = this.#calls.get(id);
    if (!call) return;
    this.#calls.delete(id);
    call.onEnd(reset);
  }

  #closed(): void {
    this.#closing = true;
    for (const id of [...this.#calls.keys()]) this.#ended(id, true);
  }
}
