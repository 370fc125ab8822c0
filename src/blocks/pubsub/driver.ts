/** What a broker must do, and no more. What is the same for all brokers is in `bus.ts` and the engine beside it. */
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Call, ErrorClass } from "../call.ts";

/**
 * A broker: logs of events by topic, and groups that read them.
 *
 * Drivers throw what their library throws. They never wrap errors, log what
 * they throw, or read the environment. Methods may be called concurrently, in any
 * order, until `close`. A driver finds its server again by itself: until then a
 * call waits, for as long as its signal and the driver's own limit let it.
 *
 * A driver is pulled: it hands out what `receive` asks for and buffers no
 * more than its protocol forces it to. It counts attempts as well as its
 * broker can; backoff, deadlines, expiry, dead letters and routes are not its business.
 */
export interface PubSubDriver {
  /** Fixed for the driver's life. The conformance suite holds it to every claim and every absence. */
  readonly supports: PubSubSupports;

  /**
   * Works on several publishes to a topic at once, and each costs little of its own: then a stream has more of small batches,
   * each acknowledged when it is done, than of waiting for a large one. Absent: no.
   */
  readonly overlaps?: boolean;

  /**
   * Appends events to a topic, in order, creating the topic if need be. Calls made one after the
   * other append in the order of the calls, also when the earlier one has not been answered yet.
   * Resolves when each is durable or has failed, one result for each event in
   * order: an Error is what the library threw for it. Throws when all failed alike.
   */
  publish(topic: string, events: readonly Outgoing[], call: Call): Promise<readonly (Published | Error)[]>;

  /**
   * Joins a group, creating it if need be. From when this resolves, published events will be received.
   * Throws UnknownPosition or OrderConflict where it comes to that.
   */
  open(spec: SubscriptionSpec, call: Call): Promise<DriverSubscription>;

  /** Tells the broker that the sidecar is going away: it need give nothing more. What is out is still settled. */
  pause?(call: Call): Promise<void>;

  /** Resolves when the broker answers. */
  ping(call: Call): Promise<void>;

  /** Classifies an error that this driver threw; undefined when it is unknown. */
  classify(error: unknown): ErrorClass | undefined;

  /** Closes every subscription and releases every resource. No other call follows. */
  close(): Promise<void>;
}

/** Thrown by `open` for a position to begin after that the broker never gave. Needs no classification. */
export class UnknownPosition extends Error {
  override readonly name = "UnknownPosition";
}

/** Thrown by `open` when members of the group elsewhere want order and this one does not, or the other way round. */
export class OrderConflict extends Error {
  override readonly name = "OrderConflict";
}

/** What a broker can do beyond the basics. */
export interface PubSubSupports {
  /** `Outgoing.deliverAtMs`: an event enters its topic later. */
  readonly delay: boolean;
  /** `SubscriptionSpec.ordered`. */
  readonly ordering: boolean;
  /** Topics with `*` and `>` in `SubscriptionSpec.topic`. */
  readonly wildcards: boolean;
  /** `position` of what is published and received, and starting at one. */
  readonly positions: boolean;
  /** Starting at a time. */
  readonly startAtTime: boolean;
  /** `DriverSubscription.lag`. */
  readonly lag: boolean;
  /** `Outgoing.partition`. Absent: no. */
  readonly partitions?: boolean;
  /** Attempts that survive the death of every sidecar. Without it, attempts count from 1 in each. */
  readonly durableAttempts: boolean;
  /**
   * Any groups, and where they begin. Without it there is one group, which the component's settings name, and
   * the broker knows where it begins. Absent: yes.
   */
  readonly groups?: boolean;
  /** Gives an event only when the one before it is settled, so that waiting for several is in vain. Absent: no. */
  readonly oneByOne?: boolean;
}

/** An event on its way to the broker, complete and checked. */
export interface Outgoing {
  /** All required attributes are set. With `raw`, only `data` counts. */
  readonly event: Event;
  /** The ordering key, or "". */
  readonly key: string;
  /** Broker headers that are no CloudEvents attributes. */
  readonly headers: Readonly<Record<string, string>>;
  /** Without an envelope. */
  readonly raw: boolean;
  /** Enters the topic at this time, milliseconds since 1970. Only with `supports.delay`. */
  readonly deliverAtMs: number | undefined;
  /** Milliseconds from entering the topic until the event expires. */
  readonly timeToLiveMs: number | undefined;
  /** The partition, instead of the key's. Only with `supports.partitions`. */
  readonly partition?: number;
  /** Has been refused in another form: in whichever takes least room, whatever limits the component has of its own. */
  readonly compact?: boolean;
}

/** An event that the broker has. */
export interface Published {
  /** Opaque; "" without `supports.positions` and for an event that enters its topic later. */
  readonly position: string;
}

/** What to receive. */
export interface SubscriptionSpec {
  /** A topic, or with `supports.wildcards` a pattern. */
  readonly topic: string;
  /**
   * The consumer group: members share its events. Undefined: a group of its own, which is
   * forgotten when the subscription closes or its process dies.
   */
  readonly group: string | undefined;
  /** Where a group that does not exist yet begins. */
  readonly start: StartAt;
  /**
   * True: never two events of one key out at once, over all members of the
   * group in all sidecars, and always the earliest unsettled one; events without a key are free.
   * What waits for its key does not keep other keys from being received.
   */
  readonly ordered: boolean;
  /** True: events as the broker has them, in `event.data`; no envelope is looked for. */
  readonly raw: boolean;
  /** What a subscription of Dapr's says to the broker, for those that have a use for it. Absent: nothing. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Where a group begins. */
export type StartAt =
  | { readonly at: "earliest" }
  | { readonly at: "latest" }
  | { readonly at: "time"; readonly timeMs: number }
  | { readonly at: "position"; readonly position: string };

/** A membership of a group. */
export interface DriverSubscription {
  /**
   * Waits for events and returns 1 to `max` of them, or none when the signal
   * aborts (it never throws for that, and nothing is lost by it). One call at
   * a time. What it returned is this member's until it is settled, the
   * subscription closes or its process dies; then others receive it.
   */
  receive(max: number, call: Call): Promise<readonly Received[]>;

  /**
   * Settles events that were received, in any order. One that is not this
   * member's any more is passed over. Done means: the group never receives it again.
   */
  settle(settlements: readonly Settlement[], call: Call): Promise<void>;

  /** With `supports.lag`: how far the group is behind. */
  lag?(call: Call): Promise<Lag>;

  /**
   * What operators should know although the broker answers, such as why nothing is received, or what the broker has
   * lost; absent or "" when all is well. No secrets.
   */
  readonly trouble?: string;

  /** Leaves the group and gives back what is not settled, uncounted if it can. */
  close(): Promise<void>;
}

/** An event from the broker. */
export interface Received {
  /** The driver's own handle; goes back in a Settlement. */
  readonly receipt: unknown;
  /** Others may have received the same object: it is never changed. */
  readonly event: Event;
  /** The topic it was published to. */
  readonly topic: string;
  /** The ordering key, or "". */
  readonly key: string;
  /** Opaque; "" without `supports.positions`. */
  readonly position: string;
  /** When the event entered the topic, milliseconds since 1970. */
  readonly publishedAtMs: number;
  /** When it expires, milliseconds since 1970. Expired events are handed out too: the engine decides what becomes of them. */
  readonly expiresAtMs: number | undefined;
  /** How often the group has received it, this time included: 1 or more. */
  readonly attempt: number;
  /** Broker headers that are no CloudEvents attributes. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Why the record is no CloudEvent although `raw` was not asked for, in a few words. `event` is then made of
   * what is known: its data are the record's bytes. The engine decides what becomes of it.
   */
  readonly notCloudEvent?: string;
  /** Where the broker has them. */
  readonly partition?: number;
  readonly offset?: bigint;
}

/** What becomes of a received event. */
export type Settlement = { readonly receipt: unknown } & (
  | { readonly kind: "done" }
  /** Received again, by any member, after `delayMs`; its attempt has counted. In an ordered group its key waits. */
  | { readonly kind: "again"; readonly delayMs: number }
  /** Given back untouched: received again at once, and the attempt has not counted. */
  | { readonly kind: "returned" }
);

/** How far a group is behind. */
export interface Lag {
  /** Events in the topic that the group has not settled; those received are included. */
  readonly events: number;
  /** Events that retention removed before the group had settled them, since the group was made. */
  readonly trimmedUnsettled: number;
  /** Where the topic has partitions: the same for each of them. */
  readonly partitions?: readonly PartitionLag[];
}

/** How far a group is behind in one partition. */
export interface PartitionLag {
  readonly topic: string;
  readonly partition: number;
  /** As in Lag. */
  readonly events: number;
}
