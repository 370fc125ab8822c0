/** A bucket: the stream behind it, and reading and writing single messages of it. */
import type { StreamConfig, StreamInfo } from "@nats-io/jetstream";
import { DiscardPolicy } from "@nats-io/jetstream";
import { headers as emptyHeaders, type Msg, type MsgHdrs, nanos } from "@nats-io/transport-node";
import type { Log } from "../../telemetry/log.ts";
import type { Connection } from "./connection.ts";
import { apiCode, apiCodes, isAbsent, NatsError } from "./errors.ts";
import type { Entry } from "./state-entry.ts";

/** How long a bucket that is made here remembers deletions, for those who resume a watch. */
export const rememberDeletionsMs = 24 * 60 * 60 * 1000;
const answer = { timeout: 10_000 };

/** What a stream says when it has stored a message. */
export interface Stored {
  readonly seq: number;
  /** Messages of a batch. */
  readonly count?: number;
}

/** A write came too late: the last message of the key is another than expected. */
export class WrongRevision extends Error {
  override readonly name = "WrongRevision";
}

/** See the head of this file. */
export class Bucket {
  readonly connection: Connection;
  /** The stream's name. */
  readonly stream: string;
  /** The server removes what has expired. */
  readonly timeToLive: boolean;
  /** Several messages, all or none. */
  readonly batches: boolean;
  /** Reads need not ask the leader: there is one copy. */
  readonly #direct: boolean;
  readonly #readPrefix: string;
  readonly #writePrefix: string;
  readonly #make: () => Promise<Found>;
  readonly #log: Log;
  #mending: Promise<void> | undefined;

  private constructor(
    connection: Connection,
    name: string,
    { config }: StreamInfo,
    make: () => Promise<Found>,
    log: Log,
  ) {
    this.connection = connection;
    this.#make = make;
    this.#log = log;
    this.stream = config.name;
    this.timeToLive = config.allow_msg_ttl === true;
    this.batches = config.allow_atomic === true;
    // A copy that is not the leader may be behind.
    this.#direct = config.allow_direct && config.num_replicas <= 1 && config.mirror === undefined;
    this.#readPrefix = `$KV.${name}.`;
    this.#writePrefix =
      connection.prefix === "$JS.API" ? this.#readPrefix : `${connection.prefix}.${this.#readPrefix}`;
  }

  /** Finds the bucket, or makes it; and again, when it is gone later. Throws what the library throws. */
  static async open(connection: Connection, name: string, replicas: number, log: Log): Promise<Bucket> {
    const make = () => findOrMake(connection, configFor(connection, name, `KV_${name}`, replicas));
    const { info } = await make();
    return new Bucket(connection, name, info, make, log);
  }

  /** The subject of a key, or of a filter of keys, to read from. */
  subject(key: string): string {
    return this.#readPrefix + key;
  }

  /** The key of a subject. */
  key(subject: string): string {
    return subject.slice(this.#readPrefix.length);
  }

  /** The last message of a key; undefined when there is none. */
  async last(key: string): Promise<Entry | undefined> {
    if (!this.#direct) return this.#lastOfLeader(key);
    const { prefix } = this.connection;
    const subject = `${prefix}.DIRECT.GET.${this.stream}.${this.subject(key)}`;
    const { headers, data } = await this.#mended(this.connection.request(subject, "", answer, true));
    if (headers?.code === 404) return undefined;
    if (!headers || headers.code >= 300)
      throw new NatsError("unavailable", `the bucket cannot be read: ${headers?.description ?? "no answer"}`);
    return {
      revision: Number(headers.get("Nats-Sequence")),
      storedAtMs: Date.parse(headers.get("Nats-Time-Stamp")),
      headers,
      value: data,
    };
  }

  /** Stores a message. `expected`: the sequence of the key's last message, 0 for none. Throws WrongRevision. */
  async put(
    key: string,
    value: Uint8Array,
    headers: MsgHdrs | undefined,
    expected?: number,
  ): Promise<Stored> {
    let written = headers;
    if (expected !== undefined) {
      written ??= emptyHeaders();
      written.set("Nats-Expected-Last-Subject-Sequence", String(expected));
    }
    const options = { ...answer, ...(written && { headers: written }) };
    return storedOf(
      await this.#mended(
        this.#send(() => this.connection.request(this.#writePrefix + key, value, options, false), value),
      ),
    );
  }

  /** Headers with nothing in them. */
  headers(): MsgHdrs {
    return emptyHeaders();
  }

  /** Stores a message that is part of a batch; nothing is answered before the last one. */
  add(key: string, value: Uint8Array, headers: MsgHdrs): void {
    this.connection.nats.publish(this.#writePrefix + key, value, { headers });
  }

  async #send<T>(send: () => Promise<T>, value: Uint8Array): Promise<T> {
    try {
      return await send();
    } catch (error) {
      if (error instanceof Error && /max_payload/.test(error.message))
        throw tooLarge(this.connection, value, error);
      throw error;
    }
  }

  /** Where nobody answers for the bucket, it may be gone: then it is made again for whoever tries again. */
  async #mended<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      if (isAbsent(error)) {
        this.#mending ??= this.#mend().finally(() => {
          this.#mending = undefined;
        });
        await this.#mending;
      }
      throw error;
    }
  }

  async #mend(): Promise<void> {
    try {
      const { isNew } = await this.#make();
      if (isNew) this.#log.warn({ stream: this.stream }, "the bucket was gone and has been made again");
    } catch {
      // Whoever tries again finds the same.
    }
  }

  async #lastOfLeader(key: string): Promise<Entry | undefined> {
    const found = await this.#mended(
      this.connection.manager.streams.getMessage(this.stream, { last_by_subj: this.subject(key) }),
    );
    if (!found) return undefined;
    return {
      revision: found.seq,
      storedAtMs: found.time.getTime(),
      headers: found.header,
      value: found.data,
    };
  }
}

interface Found {
  readonly info: StreamInfo;
  /** True: it was not there. */
  readonly isNew: boolean;
}

/** Finds a stream, or makes it. Throws what the library throws. */
async function findOrMake(
  { manager: { streams } }: Connection,
  config: Partial<StreamConfig> & { name: string },
): Promise<Found> {
  try {
    return { info: await streams.info(config.name), isNew: false };
  } catch (error) {
    if (apiCode(error) !== apiCodes.streamNotFound) throw error;
  }
  try {
    return { info: await streams.add(config), isNew: true };
  } catch (error) {
    // Another sidecar was faster.
    if (apiCode(error) !== apiCodes.streamNameInUse) throw error;
    return { info: await streams.info(config.name), isNew: false };
  }
}

/** The error for a value that does not fit into a message. */
export function tooLarge(connection: Connection, value: Uint8Array, cause: unknown): NatsError {
  const text = `the value has ${value.byteLength} bytes; with its headers the NATS server takes ${connection.maxPayloadBytes} (max_payload)`;
  return new NatsError("refused", text, { cause });
}

function storedOf(message: Msg): Stored {
  const answer = message.json<Stored & { error?: { code: number; err_code: number; description: string } }>();
  if (!answer.error) return answer;
  const { code, err_code, description } = answer.error;
  if (err_code === apiCodes.wrongLastSequence || err_code === apiCodes.wrongLastSequenceUnknown)
    throw new WrongRevision();
  throw new NatsError(code >= 500 ? "unavailable" : "refused", `the bucket does not take it: ${description}`);
}

/** The layout of every client's buckets. */
function configFor(
  connection: Connection,
  name: string,
  stream: string,
  replicas: number,
): Partial<StreamConfig> & { name: string } {
  return {
    name: stream,
    description: "made by Outrider for state",
    subjects: [`$KV.${name}.>`],
    max_msgs_per_subject: 1,
    discard: DiscardPolicy.New,
    allow_rollup_hdrs: true,
    deny_delete: true,
    allow_direct: true,
    num_replicas: replicas,
    ...(connection.isAtLeast([2, 11]) && {
      allow_msg_ttl: true,
      subject_delete_marker_ttl: nanos(rememberDeletionsMs),
    }),
    ...(connection.isAtLeast([2, 12]) && { allow_atomic: true }),
  };
}
