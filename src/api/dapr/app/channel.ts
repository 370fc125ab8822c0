/** What the sidecar asks of an application that listens, in whichever protocol. */
import type { Received } from "../../../blocks/pubsub/driver.ts";
import type { AppStatus } from "../delivery-policy.ts";
import type { TopicEventOutcome, TopicSubscriptionSpec } from "../topic-subscription.ts";

/** How an application is spoken to. `h2c` is HTTP/2 without TLS. */
export type AppProtocol = "http" | "https" | "h2c" | "grpc" | "grpcs";

/** An application that listens. */
export interface AppOptions {
  /** 1 to 65535. */
  readonly port: number;
  readonly protocol: AppProtocol;
  /** A host name or address, without brackets. */
  readonly channelAddress: string;
  /** Deliveries that the application has at once; -1 or 0: without end. */
  readonly maxConcurrency: number;
  /** Sent with each call as `dapr-api-token`; "" for none. */
  readonly token: string;
  /** Undefined: the application counts as healthy. */
  readonly health: AppHealthOptions | undefined;
  /** Do not ask the application for its configuration, or for its subscriptions. */
  readonly skip: { readonly config: boolean; readonly subscribe: boolean };
}

/** How it is found out whether an application is well. */
export interface AppHealthOptions {
  /** Of HTTP applications. */
  readonly path: string;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Failures in a row until it counts as unhealthy: 1 or more. */
  readonly threshold: number;
}

/** Events of one route, to be delivered together. */
export interface Delivery {
  readonly spec: TopicSubscriptionSpec;
  readonly path: string;
  readonly received: Received;
}

/** An entry of a bulk delivery. */
export interface BulkDelivery {
  readonly spec: TopicSubscriptionSpec;
  readonly path: string;
  /** By the ids that the answer names them with. */
  readonly entries: ReadonlyMap<string, Received>;
}

/** The application was not reached, or the connection broke before it had answered. */
export class AppUnreachable extends Error {
  override readonly name = "AppUnreachable";
  /** True: it has not seen the call. */
  readonly unseen: boolean;

  constructor(unseen: boolean, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.unseen = unseen;
  }
}

/** How an application answered a call, whatever it was; for the log. */
export interface Answer extends AppStatus {
  readonly outcome: TopicEventOutcome;
  /** What it said, in a few words; "" for nothing. */
  readonly detail: string;
}

/** An application. Every method throws AppUnreachable, and the signal's reason when that aborts. */
export interface AppChannel {
  /** Reads `/dapr/config`; resolves when the application has answered anything at all. */
  loadConfig(signal: AbortSignal): Promise<void>;

  /** What the application wants to receive; none when it does not say. */
  listSubscriptions(signal: AbortSignal): Promise<readonly TopicSubscriptionSpec[]>;

  /** Delivers one event. */
  deliver(delivery: Delivery, signal: AbortSignal): Promise<Answer>;

  /** Delivers several. Entries that the answer leaves out are to be tried again. */
  deliverBulk(delivery: BulkDelivery, signal: AbortSignal): Promise<ReadonlyMap<string, Answer>>;

  /** Whether the application says that it is well. Does not throw. */
  healthy(signal: AbortSignal): Promise<boolean>;

  /** Ends the connections. */
  close(): void;
}
