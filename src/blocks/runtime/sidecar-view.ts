/** A sidecar as its own service sees it: what it may say of itself. */

/** See the head of this file. Nothing of it waits for a component. */
export interface Sidecar {
  readonly appId: string;
  readonly version: string;
  readonly instanceId: string;
  /** Milliseconds since 1970. */
  readonly startedAtMs: number;
  /** "" when no embedded store is used. */
  dataDirectory(): string;
  ports(): readonly ListeningPort[];
  components(): readonly ComponentView[];
  /** Of open streams, and declared ones that nobody has opened. */
  subscriptions(signal: AbortSignal): Promise<readonly SubscriptionView[]>;
  subscribeStreams(): number;
  /** What became of the last change of the YAML; undefined when there was none. */
  lastReload(): LastReload | undefined;
  /** Begins to stop and returns at once. */
  shutdown(): void;
}

/** See `Sidecar.lastReload`. */
export interface LastReload {
  /** Milliseconds since 1970. */
  readonly atMs: number;
  /** Why it is not in force, a line each; none: it is. */
  readonly mistakes: readonly string[];
  /** What of it takes effect at the next start. */
  readonly needRestart: readonly string[];
}

/** Where it is served. */
export interface ListeningPort {
  readonly name: string;
  readonly address: string;
  readonly port: number;
}

/** One component. */
export interface ComponentView {
  readonly name: string;
  readonly type: string;
  readonly version: string;
  /** The file that declares it; "" for one that is there by default. */
  readonly declaredIn: string;
  /** Whether the sidecar is not ready without it. */
  readonly required: boolean;
  /** What it can do beyond the basics, such as "transactions"; none until it is open. */
  capabilities(): readonly string[];
  status(): {
    readonly state: "opening" | "ready" | "failed" | "closed";
    readonly message: string;
    readonly sinceMs: number;
  };
  /** What an operator should know of it although it is ready; "" when all is well. No secrets. Absent: nothing. */
  trouble?(): string;
  /** Resolves when its server answers. Only while it is ready. */
  ping(signal: AbortSignal): Promise<void>;
}

/** The fields of the message outrider.runtime.v1.Subscription. */
export interface SubscriptionView {
  readonly component: string;
  readonly topic: string;
  readonly group: string;
  readonly declared: string;
  readonly streams: number;
  readonly inFlight: number;
  readonly maxInFlight: number;
  readonly lag: bigint | undefined;
  /** Where topics have partitions. */
  readonly partitions?: readonly {
    readonly topic: string;
    readonly partition: number;
    readonly lag: bigint;
  }[];
  readonly trimmedUnsettled: bigint;
  readonly highestAttempt: number;
}

/** The names of what a driver supports, as in metadata: `watchResume` is "watch-resume". */
export function capabilitiesOf(supports: object): string[] {
  return Object.entries(supports)
    .filter(([, supported]) => supported === true)
    .map(([name]) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`))
    .toSorted();
}
