/**
 * Events up, acknowledgements down.
 *
 * What has come in one turn of the event loop is handed to the broker as one
 * batch, without waiting for the one before; acknowledgements are cumulative, so
 * they go down in order, and as many at once as are there.
 */
import { ConnectError } from "@connectrpc/connect";
import type {
  Failure,
  Outgoing,
  Published,
  PublishStreamFailure,
  PublishStreamRequest,
  PublishStreamResponse,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { invalidRequest, reasonOf } from "../../faults.ts";
import type { TraceHeaders } from "../../telemetry/tracing.ts";
import type { Call } from "../call.ts";
import { untilAborted } from "../until-aborted.ts";
import type { Bus, PublishedEvent } from "./bus.ts";

/** Events of one stream that are not acknowledged, and their data in bytes, until no more requests are read. */
const maxInHand = 10_000;
const maxInHandBytes = 16 * 1024 * 1024;
/** Events in one request at most. */
export const maxEntries = 1000;
/** Events that are handed over together, and their data in bytes; a request with more is a batch of its own. */
const maxGathered = 200;
const maxGatheredBytes = 256 * 1024;

type Results = readonly (PublishedEvent | ConnectError)[];

/** What goes to one topic together: the events of one request, or of several that came one after the other. */
interface Batch {
  readonly bus: Bus;
  readonly topic: string;
  readonly outgoing: Outgoing[];
  /** Where each event is in its own request. */
  readonly indexes: number[];
  bytes: number;
}

/** The outcomes of one batch. */
interface Answer {
  readonly results: Results;
  /** Data of its events, in bytes. */
  readonly bytes: number;
}

/** Serves one publish stream. `busOf` finds a component by name and throws a fault when there is none. */
export async function* publishStream(
  requests: AsyncIterable<PublishStreamRequest>,
  busOf: (component: string) => Bus,
  trace: TraceHeaders,
  call: Call,
): AsyncGenerator<PublishStreamResponse, void, undefined> {
  const answers: Answer[] = [];
  const state = { inHand: 0, inHandBytes: 0, done: false, over: false, cut: false, wantPublished: false };
  let failure: unknown;
  let wakeWriter: (() => void) | undefined;
  let wakeReader: (() => void) | undefined;
  let order: Promise<unknown> = Promise.resolve();
  let gathered: Batch | undefined;

  const publish = () => {
    if (gathered === undefined) return;
    const { bus, topic, outgoing, indexes, bytes } = gathered;
    gathered = undefined;
    const results = bus.publish(topic, outgoing, (index) => `outgoing[${indexes[index]}]`, trace, call);
    bus.release();
    // The broker may answer out of turn; acknowledgements may not.
    order = Promise.all([
      order,
      results.catch((error: unknown) => outgoing.map(() => ConnectError.from(error))),
    ]).then(([, settled]) => {
      // What failed because the call is over may be published all the same: neither may be said of it.
      state.cut ||= call.signal.aborted && settled.some((result) => result instanceof ConnectError);
      if (state.cut) return wakeReader?.();
      answers.push({ results: settled, bytes });
      wakeWriter?.();
    });
  };

  const gather = (bus: Bus, topic: string, outgoing: readonly Outgoing[], bytes: number) => {
    const fits =
      gathered?.bus === bus &&
      gathered.topic === topic &&
      gathered.outgoing.length + outgoing.length <= maxGathered &&
      gathered.bytes + bytes <= maxGatheredBytes;
    if (!fits) {
      publish();
      gathered = { bus, topic, outgoing: [], indexes: [], bytes: 0 };
      // The component may be replaced before it is published, and is not closed until it is.
      bus.hold();
      setImmediate(publish);
    }
    const batch = gathered!;
    batch.bytes += bytes;
    for (let index = 0; index < outgoing.length; index++) {
      batch.outgoing.push(outgoing[index]!);
      batch.indexes.push(index);
    }
  };

  const read = async () => {
    const buses = new Map<string, Bus>();
    let component: string | undefined;
    let named = "";
    for await (const request of untilAborted(requests, call.signal)) {
      if (component === undefined) state.wantPublished = request.wantPublished;
      if (component === undefined || request.topic !== "") ({ component, topic: named } = request);
      // Found anew each time: the component may have been replaced. Then what is on its way by the one before it
      // arrives first, or the events of a key would not be in order.
      const before = buses.get(component);
      if (before !== undefined && before !== busOf(component)) {
        publish();
        await order;
      }
      const bus = busOf(component);
      buses.set(component, bus);
      const topic = named || bus.publishTopic;
      if (topic === "")
        throw invalidRequest({ field: "topic", description: "must be set in the first message" });
      const { outgoing } = request;
      if (outgoing.length > maxEntries)
        throw invalidRequest({ field: "outgoing", description: `must be at most ${maxEntries}` });
      if (outgoing.length === 0) continue;
      const bytes = outgoing.reduce((sum, { event }) => sum + (event?.data.length ?? 0), 0);
      state.inHand += outgoing.length;
      state.inHandBytes += bytes;
      gather(bus, topic, outgoing, bytes);
      const full = () => state.inHand >= maxInHand || state.inHandBytes >= maxInHandBytes;
      while (!state.over && !state.cut && full()) {
        await new Promise<void>((resolve) => {
          wakeReader = resolve;
        });
      }
    }
  };

  const reading = read()
    .catch((error: unknown) => {
      failure = error;
    })
    .then(() => {
      publish();
      return order;
    })
    .finally(() => {
      state.done = true;
      wakeWriter?.();
    });

  let sequence = 0n;
  try {
    for (;;) {
      if (answers.length > 0) {
        const settled = answers.splice(0);
        const response = acknowledge(settled, sequence, state.wantPublished);
        sequence = response.settledThrough;
        yield response;
        // Only now: a client that reads no acknowledgements must not fill the memory with them.
        for (const { results, bytes } of settled) {
          state.inHand -= results.length;
          state.inHandBytes -= bytes;
        }
        wakeReader?.();
      } else if (state.done) {
        break;
      } else {
        await new Promise<void>((resolve) => {
          wakeWriter = resolve;
        });
      }
    }
  } finally {
    state.over = true;
    wakeReader?.();
  }
  await reading;
  if (failure !== undefined) throw failure;
}

function acknowledge(
  answers: readonly Answer[],
  after: bigint,
  wantPublished: boolean,
): PublishStreamResponse {
  const failures: PublishStreamFailure[] = [];
  const published: Published[] = [];
  let sequence = after;
  for (const { results } of answers) {
    if (!wantPublished && !results.some((result) => result instanceof ConnectError)) {
      sequence += BigInt(results.length);
      continue;
    }
    for (const result of results) {
      sequence += 1n;
      const failed = result instanceof ConnectError;
      if (failed)
        failures.push({
          $typeName: "outrider.pubsub.v1.PublishStreamFailure",
          sequence,
          failure: failureOf(result),
        });
      if (wantPublished) published.push(publishedOf(failed ? { id: "", position: "" } : result));
    }
  }
  return {
    $typeName: "outrider.pubsub.v1.PublishStreamResponse",
    settledThrough: sequence,
    failures,
    published,
  };
}

/** The message of an event that the broker has. */
export function publishedOf({ id, position }: PublishedEvent): Published {
  return { $typeName: "outrider.pubsub.v1.Published", id, position };
}

/** The message of an event that was not published. */
export function failureOf(error: ConnectError): Failure {
  const reason = reasonOf(error);
  return {
    $typeName: "outrider.pubsub.v1.Failure",
    code: error.code,
    reason: reason ?? "",
    message: reason ? error.rawMessage : "internal error",
    retryable:
      reason === "COMPONENT_UNAVAILABLE" || reason === "SHUTTING_DOWN" || reason === "DEADLINE_EXCEEDED",
  };
}
