/** Publishes in the order of the calls: one request of a topic at a time, and what gathers meanwhile goes together. */
import { type CallOptions, Code, createClient } from "@connectrpc/connect";
import { PubSub } from "../../../gen/dapr/proto/components/v1/pubsub_pb.ts";
import type { Call } from "../../blocks/call.ts";
import { ComponentStatus } from "../../blocks/component-status.ts";
import type { Outgoing, Published } from "../../blocks/pubsub/driver.ts";
import { type MessageContent, toMessage } from "./event-messages.ts";
import { CallEnded, ComponentAway, EntryRefused } from "./failures.ts";
import type { Link } from "./link.ts";

/** Events in one request at most, and their bytes: servers of gRPC refuse requests of more than 4 MiB. */
const maxTogether = 500;
const maxTogetherBytes = 1024 * 1024;

/** Events of one topic that wait for their turn at most: whoever comes then is told to come again. */
const maxWaiting = 10_000;

/** The protocol has no positions. */
const published: Published = { position: "" };

/** An event that waits for its turn. */
interface Waiting {
  readonly message: MessageContent;
  readonly settle: (result: Published | Error) => void;
  /** Nobody waits for it any more. */
  dropped: boolean;
}

/** See the head of this file. */
export class Publisher {
  readonly #link: Link;
  readonly #component: string;
  readonly #topics = new Map<string, Waiting[]>();
  /** Requests are for many callers: none of them ends one. */
  readonly #unended = new AbortController().signal;
  #hasBulk = true;

  constructor(link: Link, component: string) {
    this.#link = link;
    this.#component = component;
  }

  /** As `PubSubDriver.publish`. */
  async publish(
    topic: string,
    events: readonly Outgoing[],
    { signal }: Call,
  ): Promise<readonly (Published | Error)[]> {
    if ((this.#topics.get(topic)?.length ?? 0) > maxWaiting)
      throw new ComponentAway(`${maxWaiting} events of the topic wait for the component already`);
    const nowMs = Date.now();
    const waiting: Waiting[] = [];
    const results = events.map(
      (event) =>
        new Promise<Published | Error>((settle) => {
          waiting.push({ message: toMessage(event, nowMs), settle, dropped: false });
        }),
    );
    const leave = () => {
      for (const each of waiting) {
        each.dropped = true;
        each.settle(new CallEnded("the call ended before the component answered"));
      }
    };
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
    this.#enqueue(topic, waiting);
    return await Promise.all(results).finally(() => signal.removeEventListener("abort", leave));
  }

  #enqueue(topic: string, waiting: readonly Waiting[]): void {
    const queue = this.#topics.get(topic);
    if (queue) {
      queue.push(...waiting);
      return;
    }
    const made = [...waiting];
    this.#topics.set(topic, made);
    void this.#send(topic, made);
  }

  /** Sends what is in a queue until there is nothing. Never rejects. */
  async #send(topic: string, queue: Waiting[]): Promise<void> {
    // What the same turn publishes goes together.
    await Promise.resolve();
    while (queue.length > 0) {
      const batch = nextOf(queue);
      if (batch.length === 0) continue;
      try {
        await this.#sendBatch(topic, batch);
      } catch (error) {
        for (const { settle } of batch) settle(error as Error);
      }
    }
    this.#topics.delete(topic);
  }

  /** Settles every event of a batch, or throws when all failed alike. */
  async #sendBatch(topic: string, batch: readonly Waiting[]): Promise<void> {
    const [only] = batch;
    if (batch.length > 1 && this.#hasBulk) {
      try {
        return await this.#sendTogether(topic, batch);
      } catch (error) {
        if (!(error instanceof ComponentStatus) || error.code !== Code.Unimplemented) throw error;
        this.#hasBulk = false;
      }
    }
    if (batch.length === 1) {
      await this.#sendOne(topic, only!);
      only!.settle(published);
      return;
    }
    for (const each of batch)
      each.settle(
        await this.#sendOne(topic, each).then(
          () => published,
          (error: Error) => error,
        ),
      );
  }

  async #sendOne(topic: string, { message }: Waiting): Promise<void> {
    const request = { ...message, topic, pubsubName: this.#component };
    await this.#call((client, calls) => client.publish(request, calls));
  }

  async #sendTogether(topic: string, batch: readonly Waiting[]): Promise<void> {
    const entries = batch.map(({ message: { data, contentType, metadata } }, index) => ({
      entryId: String(index),
      event: data,
      contentType,
      metadata,
    }));
    const { failedEntries } = await this.#call((client, calls) =>
      client.bulkPublish({ entries, topic, pubsubName: this.#component }, calls),
    );
    const failed = new Map(failedEntries.map(({ entryId, error }) => [entryId, error]));
    for (const [index, { settle }] of batch.entries()) {
      const why = failed.get(String(index));
      settle(why === undefined ? published : new EntryRefused(why));
    }
  }

  #call<T>(work: (client: ReturnType<typeof clientOf>, calls: CallOptions) => Promise<T>): Promise<T> {
    return this.#link.call((session, calls) => work(clientOf(session), calls), { signal: this.#unended });
  }
}

function clientOf({ transport }: Parameters<Parameters<Link["call"]>[0]>[0]) {
  return createClient(PubSub, transport);
}

/** Takes off a queue what goes together, and what nobody waits for. */
function nextOf(queue: Waiting[]): Waiting[] {
  let count = 0;
  let bytes = 0;
  for (const { message } of queue) {
    bytes += message.data.byteLength;
    if (count > 0 && (count === maxTogether || bytes > maxTogetherBytes)) break;
    count += 1;
  }
  return queue.splice(0, count).filter(({ dropped }) => !dropped);
}
