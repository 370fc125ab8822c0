/** A subscribe stream of a client that does with its connection what no library would. */
import { once } from "node:events";
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { createServer, connect as dial, type Socket } from "node:net";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  type Delivery,
  SubscribeRequestSchema,
  SubscribeResponseSchema,
} from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { framed, open } from "../server/raw-call.ts";

const service = "/outrider.pubsub.v1.PubSubService";

/** See the head of this file. */
export class RawStream implements Disposable {
  readonly deliveries: Delivery[] = [];
  readonly call: ClientHttp2Stream;
  readonly socket: Socket;
  readonly #session: ClientHttp2Session;
  #bytes: Buffer = Buffer.alloc(0);

  /** Connects, and makes the call. Nothing is read before `read`. */
  constructor(port: number, method: "Subscribe" | "PublishStream" = "Subscribe") {
    this.socket = dial(port, "127.0.0.1");
    this.socket.on("error", () => {});
    this.#session = connect(`http://127.0.0.1:${port}`, { createConnection: () => this.socket });
    this.#session.on("error", () => {});
    this.call = open(this.#session, { ":path": `${service}/${method}` });
    this.call.on("error", () => {});
  }

  /** Sends a message. False: the connection takes no more for now. */
  send(message: MessageInitShape<typeof SubscribeRequestSchema>["message"]): boolean {
    const request = create(SubscribeRequestSchema, { message: message! });
    return this.sendBytes(toBinary(SubscribeRequestSchema, request));
  }

  /** Sends a message that is there already. */
  sendBytes(message: Uint8Array): boolean {
    return this.call.write(framed(message));
  }

  /** Waits until the connection takes more; false when it took nothing for so long, in milliseconds. */
  async takesMore(withinMs: number): Promise<boolean> {
    return once(this.call, "drain", { signal: AbortSignal.timeout(withinMs) }).then(
      () => true,
      () => false,
    );
  }

  /** Reads what comes, from now on. */
  read(): this {
    this.call.on("data", (chunk: Buffer) => this.#take(chunk));
    return this;
  }

  /** The connection is gone, without a word: TCP's reset. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  [Symbol.dispose](): void {
    this.#session.destroy();
    this.socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= 5 && this.#bytes.length >= 5 + this.#bytes.readUInt32BE(1)) {
      const end = 5 + this.#bytes.readUInt32BE(1);
      const { message } = fromBinary(SubscribeResponseSchema, this.#bytes.subarray(5, end));
      if (message.case === "deliver") this.deliveries.push(...message.value.deliveries);
      this.#bytes = this.#bytes.subarray(end);
    }
  }
}

/** A way to a port that can freeze: its connections stay, and nothing passes any more. */
export class Way implements Disposable {
  readonly port: number;
  readonly #server: ReturnType<typeof createServer>;
  readonly #sockets: Socket[];

  private constructor(port: number, server: ReturnType<typeof createServer>, sockets: Socket[]) {
    this.port = port;
    this.#server = server;
    this.#sockets = sockets;
  }

  static async to(port: number): Promise<Way> {
    const sockets: Socket[] = [];
    const server = createServer((near) => {
      const far = dial(port, "127.0.0.1");
      near.pipe(far).pipe(near);
      for (const socket of [near, far]) sockets.push(socket.on("error", () => {}));
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", () => listening()));
    const address = server.address() as { readonly port: number };
    return new Way(address.port, server, sockets);
  }

  freeze(): void {
    for (const socket of this.#sockets) socket.unpipe().pause();
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}
