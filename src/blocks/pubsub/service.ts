/** The publish/subscribe API: protobuf in, protobuf out. */
import type { Message } from "@bufbuild/protobuf";
import { ConnectError, type ServiceImpl } from "@connectrpc/connect";
import type {
  Open,
  PublishBatchRequest,
  PublishStreamResponse,
  PubSubService,
  SubscribeResponse,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { fault, invalidRequest, type Violation } from "../../faults.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import { traceOf } from "../../telemetry/tracing.ts";
import type { Bus } from "./bus.ts";
import { encodeAcknowledgement, encodeDeliver } from "./deliver-encoder.ts";
import { agreedOpen, type DeclaredSubscription, parseOpen, withDeclared } from "./options.ts";
import type { ParsedOpen } from "./parsed-open.ts";
import { decodePublishStreamRequest } from "./publish-decoder.ts";
import { failureOf, publishedOf } from "./publish-outcomes.ts";
import { maxEntries, PublishStream } from "./publish-stream.ts";
import { Session } from "./session.ts";
import { decodeSubscribeRequest } from "./settle-decoder.ts";
import type { SubscribeStreams } from "./subscribe-streams.ts";

/** What the service is made of. */
export interface PubSubServiceOptions {
  /** Finds a component by its name, "" for the default. Throws COMPONENT_NOT_FOUND. */
  readonly busOf: (component: string) => Bus;
  /** The Subscription resources of the YAML, by name; read anew for each Open. */
  readonly declared: ReadonlyMap<string, DeclaredSubscription>;
  /** Where its Subscribe streams are noted. */
  readonly streams: SubscribeStreams;
  readonly telemetry: Telemetry;
}

/** Readers and writers of the messages that a busy sidecar has most of, by method. */
export const pubSubCodecs = {
  publishStream: {
    decode: decodePublishStreamRequest,
    encode: (message: Message) => encodeAcknowledgement(message as PublishStreamResponse),
  },
  subscribe: {
    decode: decodeSubscribeRequest,
    encode: (message: Message) => encodeDeliver(message as SubscribeResponse),
  },
};

const maxEntryIdBytes = 256;

/** Makes the service. */
export function pubSubService(options: PubSubServiceOptions): ServiceImpl<typeof PubSubService> {
  const { busOf, streams, telemetry } = options;
  return {
    async publish(request, context) {
      const bus = busOf(request.component);
      const [result] = await bus.publish(
        request.topic,
        [request.outgoing],
        () => "outgoing",
        traceOf(context),
        context,
      );
      if (result instanceof ConnectError) throw result;
      return { $typeName: "outrider.pubsub.v1.PublishResponse", published: publishedOf(result!) };
    },

    async publishBatch(request, context) {
      checkBatch(request);
      const bus = busOf(request.component);
      const entries = request.entries.map((entry) => entry.outgoing);
      const results = await bus.publish(
        request.topic,
        entries,
        (index) => `entries[${index}].outgoing`,
        traceOf(context),
        context,
      );
      return {
        outcomes: results.map((result, index) => ({
          entryId: request.entries[index]!.entryId,
          outcome:
            result instanceof ConnectError
              ? { case: "failure" as const, value: failureOf(result) }
              : { case: "published" as const, value: publishedOf(result) },
        })),
      };
    },

    publishStream: (requests, context) =>
      new PublishStream(busOf, traceOf(context), context).acknowledgements(requests),

    subscribe(requests, context) {
      if (streams.draining) throw fault("SHUTTING_DOWN", "the sidecar is going away", { retryAfterMs: 1000 });
      const session = new Session({
        telemetry,
        parse: (request) => parse(request, options),
        count: (each, isOpen) => streams.count(each, isOpen),
      });
      void session.listen(requests);
      // A client that dies can look as if it had half-closed: only the signal tells them apart.
      context.signal.addEventListener("abort", () => session.abandon(), { once: true });
      if (context.signal.aborted) session.abandon();
      return session.frames();
    },
  };
}

function parse(request: Open, { busOf, declared }: PubSubServiceOptions): ParsedOpen {
  const resource = request.declared === "" ? undefined : declared.get(request.declared);
  if (request.declared !== "" && !resource) {
    const names = [...declared.keys()].join(", ") || "none";
    throw fault(
      "UNKNOWN_SUBSCRIPTION",
      `no Subscription resource is called "${request.declared}"; there are: ${names}`,
      {
        metadata: { declared: request.declared },
      },
    );
  }
  const open = resource ? withDeclared(request, resource) : request;
  const bus = busOf(open.component);
  const named = open.topic === "" ? { ...open, topic: bus.subscribeTopic } : open;
  const { shared, stream } = parseOpen(named, bus.defaultGroup);
  bus.checkOpen(shared);
  return {
    bus,
    shared,
    stream,
    agreed: agreedOpen(named, bus.name, shared, stream),
    join: (consumer, signal) => bus.subscribe(shared, consumer, signal),
  };
}

function checkBatch({ entries }: PublishBatchRequest): void {
  const violations: Violation[] = [];
  if (entries.length === 0 || entries.length > maxEntries)
    violations.push({ field: "entries", description: `must be 1 to ${maxEntries}` });
  const seen = new Set<string>();
  for (const [index, { entryId }] of entries.entries()) {
    const field = `entries[${index}].entry_id`;
    if (Buffer.byteLength(entryId) > maxEntryIdBytes)
      violations.push({ field, description: `must have at most ${maxEntryIdBytes} bytes` });
    if (entryId !== "" && seen.has(entryId))
      violations.push({ field, description: `"${entryId}" names another entry already` });
    seen.add(entryId);
  }
  if (violations.length > 0) throw invalidRequest(...violations);
}
