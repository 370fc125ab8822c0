/**
 * The parts of kafkajs that are used: its connections, their authentication, and how requests are written and
 * answers read. Its consumer is not: it can only give up all partitions at every change of its group, and tells
 * nobody before. Nor is its producer, which waits for one answer a broker and puts nothing together.
 */
import type Broker from "kafkajs/src/broker/index.js";
import type ConnectionPool from "kafkajs/src/network/connectionPool.js";
import type Encoder from "kafkajs/src/protocol/encoder.js";
import type { Definition, Protocol } from "kafkajs/src/protocol/requests/index.js";

export type { PoolOptions, SocketRequest } from "kafkajs/src/network/connectionPool.js";
export type { Broker, ConnectionPool, Encoder, Protocol };

/** See the head of this file. */
export interface Library {
  readonly Broker: typeof Broker;
  readonly ConnectionPool: typeof ConnectionPool;
  readonly Encoder: typeof Encoder;
  readonly apiKeys: Readonly<Record<string, number>>;
  readonly requests: Readonly<Record<string, Definition>>;
  lookup(
    versions: unknown,
  ): (apiKey: number, definition: Definition) => (...args: readonly unknown[]) => Protocol;
  /** Kafka's name of an error, and what it says of it. */
  errorOf(code: number): { readonly type: string; readonly message: string };
  /** A logger of kafkajs that gives each entry to a function. */
  loggerOf(tell: (message: string, fields: Readonly<Record<string, unknown>>) => void): unknown;
}

/** Errors that came after the last release of kafkajs. */
const younger: Readonly<Record<number, readonly [type: string, message: string]>> = {
  89: ["THROTTLING_QUOTA_EXCEEDED", "the quota for such requests is used up"],
  90: ["PRODUCER_FENCED", "another producer has taken its place"],
  91: ["RESOURCE_NOT_FOUND", "it does not exist"],
  100: ["UNKNOWN_TOPIC_ID", "there is no topic of that id"],
  110: ["FENCED_MEMBER_EPOCH", "the member is not of this epoch"],
};

/** The level of kafkajs at which it tells all but what it does with every request. */
const infoLevel = 4;

/** Loads what is used of kafkajs, and mends what is wrong in it. */
export async function loadLibrary(): Promise<Library> {
  const [broker, pool, queue, encoder, requests, apiKeys, errors, loggers] = await Promise.all([
    import("kafkajs/src/broker/index.js"),
    import("kafkajs/src/network/connectionPool.js"),
    import("kafkajs/src/network/requestQueue/index.js"),
    import("kafkajs/src/protocol/encoder.js"),
    import("kafkajs/src/protocol/requests/index.js"),
    import("kafkajs/src/protocol/requests/apiKeys.js"),
    import("kafkajs/src/protocol/error.js"),
    import("kafkajs/src/loggers/index.js"),
  ]);
  onlyWaitWhenThrottled(queue.default);
  const known = new Map(errors.default.errorCodes.map((error) => [error.code, error]));
  return {
    Broker: broker.default,
    ConnectionPool: pool.default,
    Encoder: encoder.default,
    apiKeys: apiKeys.default,
    requests: requests.default.requests,
    lookup: requests.default.lookup,
    errorOf(code) {
      const [type, message] = younger[code] ?? [];
      if (type !== undefined) return { type, message: message! };
      return known.get(code) ?? { type: `ERROR_${code}`, message: `it answered with error ${code}` };
    },
    loggerOf: (tell) =>
      loggers.default.createLogger({
        level: infoLevel,
        logCreator:
          () =>
          ({ log: { message, timestamp: _, logger: __, stack: ___, ...fields } }) =>
            tell(message, fields),
      }),
  };
}

/**
 * kafkajs sets a timer after every answer, for a time that lies in the past when the broker does not throttle it:
 * newer versions of Node warn of that, and the timer does nothing.
 */
function onlyWaitWhenThrottled(queue: {
  readonly prototype: { scheduleCheckPendingRequests: () => void };
}): void {
  const mended = Symbol.for("outrider.kafkajs.mended");
  const original = queue.prototype.scheduleCheckPendingRequests;
  if (mended in original) return;
  const replacement = function (this: { pending: readonly unknown[]; throttledUntil: number }): void {
    if (this.pending.length > 0 || this.throttledUntil > Date.now()) original.call(this);
  };
  queue.prototype.scheduleCheckPendingRequests = Object.assign(replacement, { [mended]: true });
}
