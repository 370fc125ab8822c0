/** Makes batches of events: numbered, for an idempotent producer, so that the broker knows one that it has already. */
import type { KafkaClient, ProducerIdentity } from "../client.ts";
import type { Codecs } from "../compression/codecs.ts";
import { encodeBatch } from "../record-batch.ts";
import type { Batch, Lane, Waiting } from "./lane.ts";

/** How batches are written. */
export interface BatchSettings {
  readonly acks: -1 | 0 | 1;
  readonly codec: number;
}

/** See the head of this file. With fewer acknowledgements than all there is nothing to be numbered for. */
export class BatchWriter {
  readonly #client: KafkaClient;
  readonly #settings: BatchSettings;
  readonly #codecs: Codecs;
  #identity: Promise<ProducerIdentity> | undefined;

  constructor(client: KafkaClient, settings: BatchSettings, codecs: Codecs) {
    this.#client = client;
    this.#settings = settings;
    this.#codecs = codecs;
  }

  /** The next batch of a partition. Throws a KafkaError when the broker gives no identity. */
  async write(lane: Lane, events: readonly Waiting[]): Promise<Batch> {
    const identity = this.#settings.acks === -1 ? await this.#identify() : undefined;
    if (lane.identity !== identity) {
      lane.identity = identity;
      lane.sequence = 0;
    }
    const options = {
      producerId: identity?.id ?? -1n,
      producerEpoch: identity?.epoch ?? -1,
      sequence: identity ? lane.sequence : -1,
      codec: this.#settings.codec,
    };
    const tails = events.map(({ tail }) => tail);
    const times = events.map(({ timeMs }) => timeMs);
    return { events, encoded: await encodeBatch(tails, times, options, this.#codecs) };
  }

  /** No batch that is written from now on has the identity that there is. */
  newIdentity(): void {
    this.#identity = undefined;
  }

  #identify(): Promise<ProducerIdentity> {
    this.#identity ??= this.#client.initProducerId().catch((error: unknown) => {
      this.#identity = undefined;
      throw error;
    });
    return this.#identity;
  }
}
