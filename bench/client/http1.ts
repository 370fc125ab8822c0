/** An HTTP/1.1 client that costs little: requests as bytes, one at a time on each of its connections. */
import { connect, type Socket } from "node:net";

const endOfHead = Buffer.from("\r\n\r\n");

/** See the head of this file. */
export class Http1Connections {
  readonly #idle: Http1Connection[] = [];
  readonly #all: readonly Http1Connection[];

  private constructor(connections: readonly Http1Connection[]) {
    this.#all = connections;
    this.#idle = [...connections];
  }

  /** Connects to a port of this machine, `count` times: as often as calls will be under way at once. */
  static async open(port: number, count: number): Promise<Http1Connections> {
    return new Http1Connections(
      await Promise.all(Array.from({ length: count }, () => Http1Connection.open(port))),
    );
  }

  /** Sends a request. Rejects when its answer is not one of success. */
  async call(request: Uint8Array): Promise<void> {
    const connection = this.#idle.pop();
    if (!connection) throw new Error("every connection is busy");
    try {
      await connection.call(request);
    } finally {
      this.#idle.push(connection);
    }
  }

  close(): void {
    for (const connection of this.#all) connection.close();
  }
}

/** A request, as bytes. */
export function httpRequest(
  method: "GET" | "POST",
  path: string,
  contentType = "",
  body: string | Uint8Array = "",
): Uint8Array {
  const bytes = Buffer.from(body);
  const head = [
    `${method} ${path} HTTP/1.1`,
    "host: 127.0.0.1",
    ...(method === "POST" ? [`content-type: ${contentType}`, `content-length: ${bytes.length}`] : []),
    "\r\n",
  ];
  return Buffer.concat([Buffer.from(head.join("\r\n")), bytes]);
}

class Http1Connection {
  readonly #socket: Socket;
  #received: Buffer | undefined;
  #waiting: PromiseWithResolvers<void> | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => this.#read(bytes));
    socket.on("close", () => this.#waiting?.reject(new Error("the connection has ended without an answer")));
    socket.on("error", () => {});
  }

  static open(port: number): Promise<Http1Connection> {
    const socket = connect({ host: "127.0.0.1", port, noDelay: true });
    return new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.once("connect", () => resolve(new Http1Connection(socket)));
    });
  }

  call(request: Uint8Array): Promise<void> {
    if (this.#socket.destroyed) return Promise.reject(new Error("the connection has ended"));
    this.#waiting = Promise.withResolvers<void>();
    this.#socket.write(request);
    return this.#waiting.promise;
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(bytes: Buffer): void {
    const received = this.#received ? Buffer.concat([this.#received, bytes]) : bytes;
    this.#received = received;
    const headEnd = received.indexOf(endOfHead);
    if (headEnd < 0) return;
    const head = received.toString("latin1", 0, headEnd + 2);
    const bodyStart = headEnd + endOfHead.length;
    if (/^transfer-encoding: chunked/im.test(head)) {
      if (!received.subarray(bodyStart).includes("0\r\n\r\n")) return;
    } else {
      const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
      if (received.length < bodyStart + length) return;
    }
    this.#received = undefined;
    const status = head.slice(9, 12);
    if (status.startsWith("2")) this.#waiting?.resolve();
    else this.#waiting?.reject(new Error(`the sidecar answered ${received}`));
  }
}
