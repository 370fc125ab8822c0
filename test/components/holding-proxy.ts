/** A way to a server on which a question can be held back, so that something happens between it and its answer. */

import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";

/** See the head of this file. */
export class HoldingProxy implements AsyncDisposable {
  readonly #server = createServer((client) => this.#join(client));
  readonly #upstreamPort: number;
  readonly #sockets = new Set<Socket>();
  #word: string | undefined;
  /** What is held back, in order. */
  #held: (() => void)[] | undefined;
  #answers = "";

  private constructor(upstreamPort: number) {
    this.#upstreamPort = upstreamPort;
  }

  static async open(upstreamPort: number): Promise<HoldingProxy> {
    const proxy = new HoldingProxy(upstreamPort);
    await new Promise<void>((resolve) => {
      proxy.#server.listen(0, "127.0.0.1", resolve);
    });
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** From the next question with a word in it on, nothing goes to the server until `release`. */
  holdFrom(word: string): void {
    this.#word = word;
    this.#answers = "";
  }

  /** Whether there was such a question. */
  get isHolding(): boolean {
    return this.#held !== undefined;
  }

  /** What the server has said since `holdFrom`. */
  get answers(): string {
    return this.#answers;
  }

  release(): void {
    const held = this.#held ?? [];
    this.#word = undefined;
    this.#held = undefined;
    for (const send of held) send();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(client: Socket): void {
    const upstream = connect(this.#upstreamPort, "127.0.0.1");
    for (const socket of [client, upstream]) {
      this.#sockets.add(socket);
      socket.on("error", () => {});
    }
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
    client.on("data", (bytes) => {
      if (this.#word !== undefined && bytes.includes(this.#word)) this.#held ??= [];
      if (this.#held) this.#held.push(() => upstream.write(bytes));
      else upstream.write(bytes);
    });
    upstream.on("data", (bytes) => {
      this.#answers += bytes.toString("latin1");
      client.write(bytes);
    });
  }
}
