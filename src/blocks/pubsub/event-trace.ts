/** The trace that an event carries, in its extension attributes (CloudEvents Distributed Tracing extension). */
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { TraceHeaders } from "../../telemetry/tracing.ts";

/** The trace of an event; "" where it has none. */
export function traceOfEvent({ extensions }: Event): TraceHeaders {
  const { traceparent = "", tracestate = "", baggage = "" } = extensions;
  return { traceparent, tracestate, baggage };
}

/** The same event with another trace. Events are shared between groups, so it is a copy. */
export function withTrace(event: Event, { traceparent, tracestate, baggage }: TraceHeaders): Event {
  const extensions: Record<string, string> = { ...event.extensions, traceparent };
  if (tracestate !== "") extensions["tracestate"] = tracestate;
  if (baggage !== "") extensions["baggage"] = baggage;
  return { ...event, extensions };
}
