/** The ports of a sidecar: the ones that were asked for, or free ones. */
import type { Listening } from "./server/listening.ts";

/** A port to listen on. */
export interface PortChoice {
  /** 0 to 65535; 0 takes a free one. */
  readonly port: number;
  /** True: this one or none. False: another when it is taken. */
  readonly fixed: boolean;
}

/** The address cannot be had. */
export class PortUnavailable extends Error {
  override readonly name = "PortUnavailable";
}

/**
 * Starts a server on the first address, and the same server on the same port of the others.
 * Throws PortUnavailable; then nothing listens.
 */
export async function listenOn(
  name: string,
  choice: PortChoice,
  addresses: readonly string[],
  start: (host: string, port: number) => Promise<Listening>,
): Promise<Listening[]> {
  const listening: Listening[] = [];
  try {
    for (const host of addresses) {
      const port = listening[0]?.port ?? choice.port;
      const mayMove = !choice.fixed && listening.length === 0 && port !== 0;
      listening.push(
        await start(host, port).catch((error) => (mayMove && isTaken(error) ? start(host, 0) : fail(error))),
      );
    }
    return listening;
  } catch (error) {
    await Promise.all(listening.map((each) => each.close(0)));
    throw new PortUnavailable(`${name} port ${choice.port}: ${explain(error)}`);
  }
}

function isTaken(error: unknown): boolean {
  return codeOf(error) === "EADDRINUSE";
}

function explain(error: unknown): string {
  const address = error instanceof Error && "address" in error ? String(error.address) : "the address";
  switch (codeOf(error)) {
    case "EADDRINUSE":
      return `something else listens on ${address} already`;
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `${address} is no address of this host`;
    case "EACCES":
      return "this user may not listen there";
    default:
      return error instanceof Error ? error.message : String(error);
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function fail(error: unknown): never {
  throw error;
}
