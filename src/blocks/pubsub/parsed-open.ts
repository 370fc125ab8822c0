/** An Open that makes sense, as the components and declared subscriptions of the moment have it. */
import type { Open } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { disagreement, type SharedOptions, type StreamOptions } from "./options.ts";
import type { Consumer, Subscription } from "./subscription.ts";

/** See the head of this file. */
export interface ParsedOpen {
  /** What serves it; another when the component has been replaced. */
  readonly bus: object;
  readonly shared: SharedOptions;
  readonly stream: StreamOptions;
  /** What `Opened` tells. */
  readonly agreed: Open;
  /** Has the consumer join the group; waits for the component until the signal aborts. Throws a fault. */
  join(consumer: Consumer, signal: AbortSignal): Promise<Subscription>;
}

/** Whether two of them join the same. */
export function joinTheSame(one: ParsedOpen, other: ParsedOpen): boolean {
  const [a, b] = [one.shared, other.shared];
  return one.bus === other.bus && a.topic === b.topic && a.group === b.group && !disagreement(a, b);
}
