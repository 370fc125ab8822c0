/** What a group of subscribers has handled, remembered in a store: the memory of an inbox. */
import { createHash } from "node:crypto";
import { fault } from "../../faults.ts";
import type { Call } from "../call.ts";
import type { Connection } from "../connection.ts";
import type { InboxMemory } from "../pubsub/inbox.ts";
import type { StateDriver, Write } from "./driver.ts";
import { failureOf } from "./failure.ts";
import { reservedPrefix } from "./keys.ts";

/** Keys asked for, and written, together. */
const maxTogether = 500;

/** Who remembers. */
export interface HandledEventsOptions {
  /** The store's, found anew for each call. Throws COMPONENT_NOT_FOUND. */
  readonly connection: () => Connection<StateDriver>;
  /** Milliseconds. */
  readonly windowMs: number;
  /** The pub/sub component, and the group. */
  readonly component: string;
  readonly group: string;
}

/** See the head of this file. */
export class HandledEvents implements InboxMemory {
  readonly #options: HandledEventsOptions;

  constructor(options: HandledEventsOptions) {
    this.#options = options;
  }

  async check(signal: AbortSignal): Promise<void> {
    const connection = this.#options.connection();
    const { component, type } = connection;
    const { supports } = await connection.ready(signal);
    if (supports.timeToLive) return;
    throw fault(
      "NOT_SUPPORTED",
      `state store "${component}" (${type}) cannot keep an inbox: it does not support time-to-live`,
      { metadata: { component, capability: "time-to-live" } },
    );
  }

  handled(identities: readonly string[], call: Call): Promise<readonly boolean[]> {
    return this.#run(call, async (driver) => {
      const found = await Promise.all(
        slices(identities).map((some) =>
          driver.get(
            some.map((identity) => this.#key(identity)),
            call,
          ),
        ),
      );
      return found.flat().map((item) => item !== undefined);
    });
  }

  async remember(identities: readonly string[], call: Call): Promise<void> {
    const expiresAtMs = Date.now() + this.#options.windowMs;
    await this.#run(call, async (driver) => {
      const together = driver.supports.transactions && driver.beside === undefined ? maxTogether : 1;
      const writes = [...new Set(identities)].map((identity): Write => {
        const empty = { value: new Uint8Array(), contentType: "", metadata: {} };
        return { kind: "set", key: this.#key(identity), ...empty, expiresAtMs, precondition: undefined };
      });
      await Promise.all(slices(writes, together).map((some) => driver.write(some, call)));
    });
  }

  /** Of a bounded length, whatever the event's names are. */
  #key(identity: string): string {
    const { component, group } = this.#options;
    const digest = createHash("sha256").update(`${component}\n${group}\n${identity}`).digest("base64url");
    return `${reservedPrefix}inbox||${digest}`;
  }

  async #run<T>(call: Call, work: (driver: StateDriver) => Promise<T>): Promise<T> {
    const connection = this.#options.connection();
    let driver: StateDriver | undefined;
    try {
      driver = connection.current();
      return await work(driver);
    } catch (error) {
      throw failureOf(error, connection.component, driver, call, (stored) => stored);
    }
  }
}

function slices<T>(all: readonly T[], size = maxTogether): T[][] {
  const parts: T[][] = [];
  for (let at = 0; at < all.length; at += size) parts.push(all.slice(at, at + size));
  return parts;
}
