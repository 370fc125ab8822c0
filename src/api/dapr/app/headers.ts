/** What accompanies an event to the application: its trace, and what the broker has beside it. */
import type { Received } from "../../../blocks/pubsub/driver.ts";
import { noTraceparent } from "../published-event.ts";
import type { TopicSubscriptionSpec } from "../topic-subscription.ts";

/** The trace of an event, as headers have it. */
export interface EventTrace {
  readonly traceparent: string;
  /** "" for none. */
  readonly tracestate: string;
  readonly baggage: string;
}

/** Headers that belong to a connection or a body, and to nothing that came from a broker. */
const notForwarded =
  /^(content-(length|type|encoding)|connection|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|host|expect|dapr-api-token|traceparent|tracestate|baggage|grpc-.*|:.*)$/i;
const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const headerValue = /^[\t\x20-\x7e]*$/;

/** The trace that an event belongs to: what its publisher gave, to the letter. */
export function eventTraceOf(
  { event: { extensions }, headers }: Received,
  spec: TopicSubscriptionSpec,
): EventTrace {
  // A record without an envelope has its trace in the broker's headers.
  const from = spec.raw ? headers : extensions;
  const own = (name: string) => {
    const value = from[name] ?? "";
    return headerValue.test(value) ? value : "";
  };
  return {
    traceparent: own("traceparent") || own("traceid") || noTraceparent,
    tracestate: own("tracestate"),
    baggage: own("baggage"),
  };
}

/** The broker's headers, without those that would change what the call is. Names in lower case. */
export function brokerHeadersOf({ headers }: Received): Record<string, string> {
  const forwarded: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    if (headerName.test(name) && headerValue.test(value) && !notForwarded.test(name))
      forwarded[name.toLowerCase()] = value;
  return forwarded;
}

/** A traceparent as OpenCensus has it in `grpc-trace-bin`; undefined for one that cannot be read. */
export function binaryTrace(traceparent: string): Buffer | undefined {
  const parts = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})/.exec(traceparent);
  if (!parts) return undefined;
  const [, traceId, spanId, flags] = parts;
  return Buffer.from(`0000${traceId}01${spanId}02${flags}`, "hex");
}
