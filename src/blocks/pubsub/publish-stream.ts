/**
 * Events up, acknowledgements down.
 *
 * What has come in one turn of the event loop is handed to the broker in a batch, or
 * a few, without waiting for the one before; acknowledgements are cumulative, so
 * they go down in order, and as many at once as are there.
 */
import { ConnectError } from "@connectrpc/connect";
import type {
  Outgoing,
  PublishStreamRequest,
  PublishStreamResponse,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { invalidRequest } from "../../faults.ts";
import type { TraceHeaders } from "../../telemetry/tracing.ts";
import { WakeUp } from "../../wake-up.ts";
import type { Call } from "../call.ts";
import { untilAborted } from "../until-aborted.ts";
import type { Bus } from "./bus.ts";
import { type Answer, acknowledgementOf, type Outcomes } from "./publish-outcomes.ts";

/** Events of one stream that are not acknowledged, and their data in bytes, until no more requests are read. */
const maxInHand = 10_000;
const maxInHandBytes = 16 * 1024 * 1024;
/** Events in one request at most. */
export const maxEntries = 1000;
/** Events that are handed over together, and their data in bytes; a request with more is a batch of its own. */
const maxGathered = 200;
const maxGatheredBytes = 256 * 1024;
/**
 * The same, and of a request too, where the broker works on several batches at once. What goes together is acknowledged together: with
 * more, the application would wait while the broker writes, and the broker while the application reads acknowledgements.
 */
const maxOverlapping = 32;

/** What goes to one topic together: events of one request, or of several that came one after the other. */
interface Batch {
  readonly bus: Bus;
  readonly topic: string;
  readonly outgoing: Outgoing[];
  /** Where each event is in its own request. */
  readonly indexes: number[];
  bytes: number;
}

/** See the head of this file. */
export class PublishStream {
  readonly #busOf: (component: string) => Bus;
  readonly #trace: TraceHeaders;
  readonly #call: Call;
  /** What the last request that named a topic said, or the first; undefined before it. */
  #component: string | undefined;
  #topic = "";
  #wantPublished = false;
  /** What each component was when it was last used. */
  readonly #buses = new Map<string, Bus>();
  /** Events that are read and not acknowledged, and their data in bytes. */
  #inHand = 0;
  #inHandBytes = 0;
  /** What is handed over next. */
  #gathered: Batch | undefined;
  /** Resolves when all batches so far are answered. */
  #order: Promise<void> = Promise.resolve();
  readonly #answers: Answer[] = [];
  /** Of the last event that is acknowledged. */
  #sequence = 0n;
  /** True: no further answer comes. */
  #answered = false;
  /** True: what is not acknowledged yet never is. */
  #mute = false;
  readonly #reader = new WakeUp();
  readonly #writer = new WakeUp();

  /** `busOf` finds a component by name and throws a fault when there is none. */
  constructor(busOf: (component: string) => Bus, trace: TraceHeaders, call: Call) {
    this.#busOf = busOf;
    this.#trace = trace;
    this.#call = call;
  }

  /** Publishes what the application says until it stops. Throws what ended the stream, when all before it is acknowledged. */
  async *acknowledgements(
    requests: AsyncIterable<PublishStreamRequest>,
  ): AsyncGenerator<PublishStreamResponse, void, undefined> {
    const reading = this.#read(requests);
    // Who leaves early does not hear of it.
    reading.catch(() => undefined);
    try {
      for (;;) {
        const answers = this.#answers.splice(0);
        if (answers.length > 0) {
          const response = acknowledgementOf(answers, this.#sequence, this.#wantPublished);
          this.#sequence = response.settledThrough;
          yield response;
          // Only now: a client that reads no acknowledgements must not fill the memory with them.
          this.#letGo(answers);
        } else if (this.#answered) {
          break;
        } else {
          await this.#writer.wait();
        }
      }
    } finally {
      this.#mute = true;
      this.#reader.ring();
    }
    await reading;
  }

  async #read(requests: AsyncIterable<PublishStreamRequest>): Promise<void> {
    try {
      for await (const request of untilAborted(requests, this.#call.signal)) {
        this.#follow(request);
        // What is on its way by the component before arrives first, or the events of a key would not be in order.
        if (this.#isReplaced()) await this.#settle();
        this.#take(request.outgoing);
        while (this.#isFull() && !this.#mute) {
          await this.#reader.wait();
        }
      }
    } finally {
      await this.#settle();
      this.#answered = true;
      this.#writer.ring();
    }
  }

  /** A request that names no topic goes where the one before it went. */
  #follow({ component, topic, wantPublished }: PublishStreamRequest): void {
    const isFirst = this.#component === undefined;
    if (isFirst) this.#wantPublished = wantPublished;
    if (!isFirst && topic === "") return;
    this.#component = component;
    this.#topic = topic;
  }

  /** Whether another component has the name since it was last used here. */
  #isReplaced(): boolean {
    const before = this.#buses.get(this.#component!);
    return before !== undefined && before !== this.#busOf(this.#component!);
  }

  /** Checks the events of a request and gathers them. Throws a fault. */
  #take(outgoing: readonly Outgoing[]): void {
    const bus = this.#busOf(this.#component!);
    this.#buses.set(this.#component!, bus);
    const topic = this.#topic || bus.publishTopic;
    if (topic === "")
      throw invalidRequest({ field: "topic", description: "must be set in the first message" });
    if (outgoing.length > maxEntries)
      throw invalidRequest({ field: "outgoing", description: `must be at most ${maxEntries}` });
    const most = bus.overlaps ? maxOverlapping : maxEntries;
    for (let from = 0; from < outgoing.length; from += most)
      this.#gather(bus, topic, outgoing, from, Math.min(from + most, outgoing.length));
  }

  /** Gathers the events of a request that are at `from` and after it, to before `until`. */
  #gather(bus: Bus, topic: string, outgoing: readonly Outgoing[], from: number, until: number): void {
    const count = until - from;
    let bytes = 0;
    for (let index = from; index < until; index++) bytes += outgoing[index]!.event?.data.length ?? 0;
    this.#inHand += count;
    this.#inHandBytes += bytes;
    const limit = bus.overlaps ? maxOverlapping : maxGathered;
    const fits =
      this.#gathered?.bus === bus &&
      this.#gathered.topic === topic &&
      this.#gathered.outgoing.length + count <= limit &&
      this.#gathered.bytes + bytes <= maxGatheredBytes;
    if (!fits) {
      this.#publish();
      this.#gathered = { bus, topic, outgoing: [], indexes: [], bytes: 0 };
      // The component may be replaced before it is published, and is not closed until it is.
      bus.hold();
      setImmediate(this.#publish);
    }
    const batch = this.#gathered!;
    batch.bytes += bytes;
    for (let index = from; index < until; index++) {
      batch.outgoing.push(outgoing[index]!);
      batch.indexes.push(index);
    }
  }

  /** Hands over what is gathered. */
  readonly #publish = (): void => {
    if (this.#gathered === undefined) return;
    const { bus, topic, outgoing, indexes, bytes } = this.#gathered;
    this.#gathered = undefined;
    const outcomes = bus
      .publish(topic, outgoing, (index) => `outgoing[${indexes[index]}]`, this.#trace, this.#call)
      .catch((error: unknown) => outgoing.map(() => ConnectError.from(error)));
    bus.release();
    // The broker may answer out of turn; acknowledgements may not.
    this.#order = Promise.all([outcomes, this.#order]).then(([settled]) => this.#answer(settled, bytes));
  };

  #answer(outcomes: Outcomes, bytes: number): void {
    // What failed because the call is over may be published all the same: neither may be said of it.
    if (this.#call.signal.aborted && outcomes.some((outcome) => outcome instanceof ConnectError))
      this.#mute = true;
    if (this.#mute) {
      this.#reader.ring();
      return;
    }
    this.#answers.push({ outcomes, bytes });
    this.#writer.ring();
  }

  /** Resolves when everything that was read is answered. */
  #settle(): Promise<void> {
    this.#publish();
    return this.#order;
  }

  #letGo(answers: readonly Answer[]): void {
    for (const { outcomes, bytes } of answers) {
      this.#inHand -= outcomes.length;
      this.#inHandBytes -= bytes;
    }
    this.#reader.ring();
  }

  #isFull(): boolean {
    return this.#inHand >= maxInHand || this.#inHandBytes >= maxInHandBytes;
  }
}
