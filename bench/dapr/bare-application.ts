/**
 * A gRPC application that costs little: HTTP/2 by hand. With Node's own server the application would be what is waited
 * for, and the sidecar would never be at full speed. It reads no header: the first call is the one that asks for its
 * subscriptions, and every other brings an event.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { ListTopicSubscriptionsResponseSchema } from "../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import { defaultWindow, flags, frame, frameHeaderBytes, frameTypes, windowUpdate } from "../client/frames.ts";
import type { Receiver } from "../client/receiver.ts";
import { bytesOf } from "../messages.ts";

const prefaceBytes = 24;
/** `:status` 200 and `content-type: application/grpc` (RFC 7541): neither is remembered. */
const headers = Buffer.concat([Buffer.from([0x88, 0x0f, 0x10, 16]), Buffer.from("application/grpc")]);
/** `grpc-status: 0`. */
const trailers = Buffer.concat([Buffer.from([0x00, 11]), Buffer.from("grpc-status"), Buffer.from("\u00010")]);
const nothing = Buffer.alloc(0);

/** See the head of this file. */
export class BareApplication implements Receiver {
  received = 0;
  onReceived: () => void = () => {};
  onEnd: () => void = () => {};
  readonly protocol = "grpc";
  readonly #server: Server;
  #subscriptions: Uint8Array | undefined;

  private constructor(pubsubName: string, topic: string) {
    this.#subscriptions = bytesOf(ListTopicSubscriptionsResponseSchema, {
      subscriptions: [{ pubsubName, topic }],
    });
    this.#server = createServer({ noDelay: true }, (socket) => this.#serve(socket));
  }

  /** Listens on a free port. */
  static async listen(pubsubName: string, topic: string): Promise<BareApplication> {
    const application = new BareApplication(pubsubName, topic);
    await once(application.#server.listen(0, "127.0.0.1"), "listening");
    return application;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
  }

  #serve(socket: Socket): void {
    let bytes: Buffer = nothing;
    let begun = false;
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      const out: Buffer[] = [];
      if (!begun) {
        if (bytes.length < prefaceBytes) return;
        begun = true;
        bytes = bytes.subarray(prefaceBytes);
        out.push(frame(frameTypes.settings, 0, 0, nothing));
      }
      let taken = 0;
      const before = this.received;
      while (bytes.length >= frameHeaderBytes) {
        const length = bytes.readUIntBE(0, 3);
        if (bytes.length < frameHeaderBytes + length) break;
        const [type, flag] = [bytes[3]!, bytes[4]!];
        if (type === frameTypes.data) {
          taken += length;
          if (flag & flags.endStream) this.#answer(out, bytes.readUInt32BE(5));
        } else if (type === frameTypes.settings && !(flag & flags.ack)) {
          out.push(frame(frameTypes.settings, flags.ack, 0, nothing));
        }
        bytes = bytes.subarray(frameHeaderBytes + length);
      }
      if (taken > defaultWindow) throw new Error("more data than the window has room for");
      if (taken > 0) out.push(windowUpdate(0, taken));
      if (out.length > 0) socket.write(Buffer.concat(out));
      if (this.received > before) this.onReceived();
    });
  }

  #answer(out: Buffer[], stream: number): void {
    const message = this.#subscriptions ?? nothing;
    if (!this.#subscriptions) this.received += 1;
    this.#subscriptions = undefined;
    const framed = Buffer.alloc(5 + message.length);
    framed.writeUInt32BE(message.length, 1);
    framed.set(message, 5);
    out.push(
      frame(frameTypes.headers, flags.endHeaders, stream, headers),
      frame(frameTypes.data, 0, stream, framed),
      frame(frameTypes.headers, flags.endHeaders | flags.endStream, stream, trailers),
    );
  }
}
