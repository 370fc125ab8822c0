/** What a server takes, and no more. Every number has its reason beside it. */

/** The limits of one server. All are configurable. */
export interface Limits {
  /** Longest message in either direction, in bytes, after decompression. */
  readonly maxMessageBytes: number;
  /** Longest header list of a request, in bytes as HTTP/2 counts: names, values, and 32 for each entry. */
  readonly maxHeaderBytes: number;
  /** Calls of every kind that one connection may have open at once. */
  readonly maxConcurrentStreams: number;
  /** Streaming calls that all connections together may have open at once. */
  readonly maxOpenStreams: number;
  /** What may wait for the network on one stream before its handler is asked for no more, in bytes. */
  readonly streamBufferBytes: number;
  /** How long a connection may say nothing before it is asked whether it lives, in milliseconds. */
  readonly keepaliveTimeMs: number;
  /** How long the answer to that may take, in milliseconds. */
  readonly keepaliveTimeoutMs: number;
  /** How long a connection without a call stays open, in milliseconds. */
  readonly maxConnectionIdleMs: number;
  /** How long the headers of an HTTP/1.1 request may take to arrive, in milliseconds. */
  readonly headersTimeoutMs: number;
}

/** The limits where nothing else is configured. */
export const defaultLimits: Limits = Object.freeze({
  // What gRPC libraries take by default, and daprd's --max-body-size: clients are set up for it.
  maxMessageBytes: 4 * 1024 * 1024,
  // daprd's --read-buffer-size. A trace, a token and some metadata take a quarter of it.
  maxHeaderBytes: 4 * 1024,
  // A thousand subscribe streams of one application fit over one connection, and as many
  // calls beside them: a client that reaches the limit waits without saying why.
  maxConcurrentStreams: 2000,
  // Ten applications' worth; an idle stream takes some 20 KiB.
  maxOpenStreams: 10_000,
  // As much as one HTTP/2 window: less stops and starts, more is memory for nothing.
  streamBufferBytes: 64 * 1024,
  // daprd's: a ping after 10 s, lost after 5 s more, idle connections closed after 3 minutes.
  keepaliveTimeMs: 10_000,
  keepaliveTimeoutMs: 5_000,
  maxConnectionIdleMs: 180_000,
  // daprd's ReadHeaderTimeout.
  headersTimeoutMs: 10_000,
});
