/** The deliveries that an application holds on one stream, by their ids. */
import type { Delivery, DeliveryRange } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Span } from "../../telemetry/tracing.ts";
import type { Received } from "./driver.ts";
import type { Membership } from "./membership.ts";
import type { Subscription } from "./subscription.ts";

/** A delivery that the application holds. */
export interface Held {
  readonly id: number;
  readonly membership: Membership;
  /** Where it is settled: what the membership was in when it was handed out. */
  readonly subscription: Subscription;
  readonly received: Received;
  readonly delivery: Delivery;
  /** performance.now() of when its frame was made. */
  readonly sentAt: number;
  /** Ends at the settlement; undefined without tracing. */
  readonly span: Span | undefined;
  /** performance.now(), whatever becomes of the clock; Extend moves it. */
  deadlineAt: number;
}

/** A range of delivery ids, both ends included; 1 or more. */
export interface IdRange {
  readonly first: number;
  readonly last: number;
}

/** Reads a range; undefined when it makes no sense. */
export function idRangeOf(range: DeliveryRange): IdRange | undefined {
  const first = Number(range.first);
  const last = range.last === 0n ? first : Number(range.last);
  return first < 1 || last < first ? undefined : { first, last };
}

/** See the head of this file. */
export class HeldDeliveries {
  /** In ascending order of their ids, because ids are given when they are added. */
  readonly #byId = new Map<number, Held>();

  get size(): number {
    return this.#byId.size;
  }

  add(held: Held): void {
    this.#byId.set(held.id, held);
  }

  delete(held: Held): void {
    this.#byId.delete(held.id);
  }

  /** May be deleted from while it is iterated. */
  all(): Iterable<Held> {
    return this.#byId.values();
  }

  /**
   * Does something with each that is in the range, and tells how many there were. Costs the lesser of the
   * range's length and what is held, whatever range a client thinks of. `work` may delete what it is given.
   */
  each({ first, last }: IdRange, work: (held: Held) => void): number {
    let found = 0;
    if (last - first < this.#byId.size) {
      for (let id = first; id <= last; id++) {
        const held = this.#byId.get(id);
        if (!held) continue;
        found += 1;
        work(held);
      }
      return found;
    }
    for (const [id, held] of this.#byId) {
      if (id > last) break;
      if (id < first) continue;
      found += 1;
      work(held);
    }
    return found;
  }
}
