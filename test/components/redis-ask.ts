/** What somebody else's client asks of a Redis. */
import { Redis } from "ioredis";
import type { Place } from "./redis-drivers.ts";

/** Sends one command, and returns what is answered. */
export async function ask(
  { host, port }: Place,
  command: string,
  ...words: readonly string[]
): Promise<unknown> {
  const client = new Redis({ host, port, protocol: 2, disableClientInfo: true });
  try {
    return await client.call(command, ...words);
  } finally {
    client.disconnect();
  }
}
