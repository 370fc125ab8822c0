/** The inbox of a subscription: what its group has handled is not delivered to it again. */
import type { Call } from "../call.ts";
import type { DriverSubscription, Lag, Received, Settlement } from "./driver.ts";

/** What an Open asks for. */
export interface InboxOptions {
  /** The state component, "" for the default. */
  readonly store: string;
  /** For how long events are remembered, in milliseconds. */
  readonly windowMs: number;
}

/** What a group has handled, kept in a store. Methods throw faults. */
export interface InboxMemory {
  /** Waits for the store. Throws NOT_SUPPORTED when it cannot forget. */
  check(signal: AbortSignal): Promise<void>;
  /** Which of the events are remembered: one answer for each. */
  handled(identities: readonly string[], call: Call): Promise<readonly boolean[]>;
  /** Resolves when the store has them. */
  remember(identities: readonly string[], call: Call): Promise<void>;
}

/** Finds the memory of a group. Throws COMPONENT_NOT_FOUND. */
export type InboxMemoryOf = (
  options: InboxOptions,
  owner: { readonly component: string; readonly group: string },
) => InboxMemory;

/** A settlement that says whether the application has handled the event: only that is remembered. */
export type EngineSettlement = Settlement & { readonly acked?: boolean };

/** When a copy is looked at again whose twin is being handled here, in milliseconds. */
const twinDelayMs = 1000;

interface Receipt {
  readonly inner: unknown;
  /** Undefined for what has no identity: it is never a duplicate. */
  readonly identity: string | undefined;
}

/** A membership of a group that passes over what the group has handled. */
export class InboxSubscription implements DriverSubscription {
  readonly #inner: DriverSubscription;
  readonly #memory: InboxMemory;
  readonly #onDuplicate: () => void;
  readonly #inHand = new Set<string>();
  readonly lag?: (call: Call) => Promise<Lag>;

  /** `onDuplicate` is called for each event that is settled without being delivered. */
  constructor(inner: DriverSubscription, memory: InboxMemory, onDuplicate: () => void) {
    this.#inner = inner;
    this.#memory = memory;
    this.#onDuplicate = onDuplicate;
    if (inner.lag) this.lag = (call) => inner.lag!(call);
  }

  async receive(max: number, call: Call): Promise<readonly Received[]> {
    for (;;) {
      const received = await this.#inner.receive(max, call);
      if (received.length === 0) return received;
      const fresh = await this.#withoutHandled(received, call);
      if (fresh.length > 0 || call.signal.aborted) return fresh;
    }
  }

  async settle(settlements: readonly EngineSettlement[], call: Call): Promise<void> {
    const receipts = settlements.map(({ receipt }) => receipt as Receipt);
    const acked = receipts.flatMap(({ identity }, index) =>
      settlements[index]!.acked === true && identity !== undefined ? [identity] : [],
    );
    // Before the broker is told: who dies in between finds the event remembered.
    if (acked.length > 0) await this.#memory.remember(acked, call);
    await this.#inner.settle(
      settlements.map((settlement, index) => ({ ...settlement, receipt: receipts[index]!.inner })),
      call,
    );
    for (const { identity } of receipts) if (identity !== undefined) this.#inHand.delete(identity);
  }

  get trouble(): string {
    return this.#inner.trouble ?? "";
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #withoutHandled(received: readonly Received[], call: Call): Promise<readonly Received[]> {
    const identities = received.map(identityOf);
    const known = [...new Set(identities.filter((identity) => identity !== undefined))];
    let handled: ReadonlySet<string>;
    try {
      const answers = known.length > 0 ? await this.#memory.handled(known, call) : [];
      handled = new Set(known.filter((_, index) => answers[index]));
    } catch (error) {
      // The broker keeps them until the memory can be asked.
      await this.#inner.settle(
        received.map(({ receipt }) => ({ receipt, kind: "returned" })),
        { signal: AbortSignal.timeout(60_000) },
      );
      if (call.signal.aborted) return [];
      throw error;
    }
    const fresh: Received[] = [];
    const passedOver: Settlement[] = [];
    for (const [index, event] of received.entries()) {
      const identity = identities[index];
      const { receipt } = event;
      if (identity !== undefined && handled.has(identity)) {
        this.#onDuplicate();
        passedOver.push({ receipt, kind: "done" });
      } else if (identity !== undefined && this.#inHand.has(identity)) {
        passedOver.push({ receipt, kind: "again", delayMs: twinDelayMs });
      } else {
        if (identity !== undefined) this.#inHand.add(identity);
        fresh.push({ ...event, receipt: { inner: receipt, identity } satisfies Receipt });
      }
    }
    if (passedOver.length > 0) await this.#inner.settle(passedOver, { signal: AbortSignal.timeout(60_000) });
    return fresh;
  }
}

/** `source` and `id` make an event what it is (CloudEvents 1.0, "id"); undefined for what has none. */
function identityOf({ topic, event }: Received): string | undefined {
  return event.id === "" ? undefined : `${topic}\n${event.source}\n${event.id}`;
}
