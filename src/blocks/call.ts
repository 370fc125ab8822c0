/** What a block or driver may know about the call that it serves. */
export interface Call {
  /** Aborts when the client has left, its deadline has passed, or the sidecar stops. */
  readonly signal: AbortSignal;
  /** "http" for plain HTTP, whose statuses retries may be about; else gRPC's codes are. */
  readonly protocol?: "http" | undefined;
  /** What a client of Dapr's API says to the backend beside its request, for those that have a use for it. */
  readonly hints?: Hints | undefined;
}

/** Names and values; their meaning is the backend's. */
export type Hints = Readonly<Record<string, string>>;

/**
 * How an error of a driver is to be treated. Drivers classify, blocks translate:
 *
 * - `unavailable`: the backend is away or overloaded; the same call may succeed later.
 * - `refused`: the backend understood and said no; trying again will not help.
 * - `cancelled`: the call's signal aborted.
 */
export type ErrorClass = "unavailable" | "refused" | "cancelled";
