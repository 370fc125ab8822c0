/** Which stream a subject lives in, and the streams that are made for those that live in none. */
import type { StreamConfig, StreamInfo } from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import type { Connection } from "./connection.ts";
import { apiCode, apiCodes, NatsError } from "./errors.ts";
import type { PubSubFields } from "./settings.ts";
import { firstPart, matches, streamNameOf, waitingSubject } from "./subjects.ts";

/** Subjects whose streams are remembered. */
const maxKnown = 10_000;

/** The first version that can hold a message back until its time. */
export const schedulesSince = [2, 12] as const;

/** See the head of this file. */
export class Streams {
  readonly #connection: Connection;
  readonly #fields: PubSubFields;
  /** By subject. */
  readonly #known = new Map<string, Promise<string>>();
  /** Of those that were found. */
  readonly #names = new Map<string, string>();

  constructor(connection: Connection, fields: PubSubFields) {
    this.#connection = connection;
    this.#fields = fields;
  }

  /** The name of the stream of a subject, or of a pattern; made if need be. Throws a NatsError. */
  of(subject: string): Promise<string> {
    const known = this.#known.get(subject);
    if (known !== undefined) return known;
    const found = this.#connection.asking(() => this.#find(subject));
    if (this.#known.size >= maxKnown) {
      this.#known.clear();
      this.#names.clear();
    }
    this.#known.set(subject, found);
    found.then(
      (name) => this.#names.set(subject, name),
      () => this.forget(subject),
    );
    return found;
  }

  /** The same, if it is known already. */
  peek(subject: string): string | undefined {
    return this.#names.get(subject);
  }

  /** What was known of a subject is wrong: its stream is gone. */
  forget(subject: string): void {
    this.#known.delete(subject);
    this.#names.delete(subject);
  }

  async #find(subject: string): Promise<string> {
    const { streamName } = this.#fields;
    if (streamName !== undefined) return this.#named(streamName, subject);
    const names = await this.#covering(subject);
    if (names.length > 1) {
      throw new NatsError(
        "refused",
        `"${subject}" is in several streams (${names.slice(0, 5).join(", ")}): streamName says which one is meant`,
      );
    }
    const [name] = names;
    if (name === undefined) return this.#make(subject);
    if (isPattern(subject)) await this.#checkCovers(name, subject);
    return name;
  }

  /** A stream that has only some subjects of a pattern would keep the others from its subscribers. */
  async #checkCovers(name: string, pattern: string): Promise<void> {
    const { config } = await this.#connection.manager.streams.info(name);
    if (config.subjects?.some((each) => matches(each, pattern))) return;
    throw new NatsError("refused", `the stream "${name}" takes only a part of the subjects "${pattern}"`);
  }

  async #covering(subject: string): Promise<string[]> {
    const names: string[] = [];
    const lister = this.#connection.manager.streams.names(subject);
    for (let page = await lister.next(); page.length > 0; page = await lister.next()) names.push(...page);
    return names;
  }

  async #named(name: string, subject: string): Promise<string> {
    const { streams } = this.#connection.manager;
    let info: StreamInfo;
    try {
      info = await streams.info(name);
    } catch (error) {
      if (apiCode(error) !== apiCodes.streamNotFound || !this.#fields.createStreams) throw error;
      return this.#add(name, subjectsFor(subject));
    }
    if (info.config.subjects?.some((each) => each === subject || matches(each, subject))) return name;
    // Two sidecars may do this at once, and the later one's list wins: whoever is missing in it comes again.
    if (info.config.metadata?.[madeBy] === undefined) {
      throw new NatsError("refused", `the stream "${name}" does not take the subject "${subject}"`);
    }
    const subjects = [...info.config.subjects, ...subjectsFor(subject)].filter(
      (each, index, all) => !all.some((other, at) => at !== index && other !== each && matches(other, each)),
    );
    await streams.update(name, { ...info.config, subjects: [...new Set(subjects)] });
    return name;
  }

  async #make(subject: string): Promise<string> {
    const part = firstPart(subject);
    if (!this.#fields.createStreams) {
      throw new NatsError("refused", `no stream takes the subject "${subject}", and createStreams is false`);
    }
    if (part === "*" || part === ">") {
      throw new NatsError(
        "refused",
        `no stream takes the subject "${subject}", and one that would take everything is not made: streamName names one`,
      );
    }
    try {
      return await this.#add(streamNameOf(part), [part, `${part}.>`]);
    } catch (error) {
      if (apiCode(error) !== apiCodes.streamSubjectOverlap) throw error;
      // Somebody else's stream has some of those subjects.
      return this.#add(streamNameOf(subject), [subject]);
    }
  }

  async #add(name: string, subjects: readonly string[]): Promise<string> {
    const { manager } = this.#connection;
    const { retentionAge, retentionBytes, replicas } = this.#fields;
    const schedules = this.#connection.isAtLeast(schedulesSince);
    const config: Partial<StreamConfig> & { name: string } = {
      name,
      subjects: schedules ? [...subjects, `${waitingSubject(name)}.>`] : [...subjects],
      description: "made by Outrider for pub/sub",
      max_age: nanos(retentionAge),
      max_bytes: retentionBytes ?? -1,
      num_replicas: Math.max(replicas, 1),
      allow_direct: true,
      metadata: { [madeBy]: "outrider" },
      ...(schedules && { allow_msg_schedules: true, allow_msg_ttl: true }),
    };
    try {
      await manager.streams.add(config);
    } catch (error) {
      // Another sidecar was faster.
      if (apiCode(error) !== apiCodes.streamNameInUse) throw error;
    }
    return name;
  }
}

function isPattern(subject: string): boolean {
  return /(^|\.)(\*(\.|$)|>$)/.test(subject);
}

const madeBy = "outrider-made-by";

/** A topic, and those that begin with it. */
function subjectsFor(subject: string): string[] {
  const part = firstPart(subject);
  return part === "*" || part === ">" ? [subject] : [part, `${part}.>`];
}
