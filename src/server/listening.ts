/** Sockets that listen: the same for every server. */
import type { AddressInfo, Server, Socket } from "node:net";

/** What a port is for. `public`: HTTP for health and metadata only. `internal`: gRPC for other sidecars. */
export type PortName = "grpc" | "http" | "metrics" | "public" | "internal";

/** A server that accepts connections. */
export interface Listening {
  readonly name: PortName;
  /** The address it is bound to, as the system says it. */
  readonly address: string;
  readonly port: number;
  /**
   * Accepts no more, lets open calls finish for at most `graceMs`, then ends what is left.
   * Resolves when every connection is closed. A second call can only make the grace shorter.
   */
  close(graceMs: number): Promise<void>;
}

/** Binds a server. Rejects when the address cannot be had, for instance because it is in use. */
export function listen(server: Server, host: string, port: number): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => {
      server.off("error", reject);
      resolve(server.address() as AddressInfo);
    });
  });
}

/** The open connections of a server, and their end. */
export class Connections {
  readonly #open = new Set<Socket>();
  readonly #waiting = new Set<() => void>();

  add(socket: Socket): void {
    this.#open.add(socket);
    socket.once("close", () => {
      this.#open.delete(socket);
      if (this.#open.size === 0) for (const wake of this.#waiting) wake();
    });
  }

  /** How many there are. */
  get size(): number {
    return this.#open.size;
  }

  /** Waits until there is none, or for `timeoutMs`. True when there is none. */
  async closed(timeoutMs: number): Promise<boolean> {
    if (this.#open.size === 0) return true;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, timeoutMs);
    this.#waiting.add(resolve);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(resolve);
    return this.#open.size === 0;
  }

  /** Ends all at once, without a word. */
  destroy(): void {
    for (const socket of this.#open) socket.destroy();
  }
}
