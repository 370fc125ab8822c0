/** Tells the broker how far a group is: at an interval, when a partition moves, and at the end. */
import type { CommittedOffset, GroupMemberId, KafkaClient, TopicPartition } from "../client.ts";
import { KafkaError } from "../errors.ts";

/** What may be committed: a partition, or whoever keeps its position. */
export interface Committable extends TopicPartition {
  /** It is somebody else's by now: what is known of it here is out of date. */
  readonly gone: boolean;
  /** Undefined when the broker has it already. */
  uncommitted(): CommittedOffset | undefined;
  wasCommitted(offset: CommittedOffset): void;
}

/** Codes that mean that the group is about to change, or has without us: what is ours is committed afterwards. */
const groupChanges = new Set(["REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID"]);

/** See the head of this file. One commit is under way at a time. */
export class Committer {
  readonly #client: KafkaClient;
  readonly #member: () => GroupMemberId;
  #last: Promise<unknown> = Promise.resolve();

  constructor(client: KafkaClient, member: () => GroupMemberId) {
    this.#client = client;
    this.#member = member;
  }

  /** Commits what is not committed. Throws a KafkaError when some of it could not be. */
  commit(logs: Iterable<Committable>): Promise<void> {
    const commit = this.#last.then(() => this.#commit([...logs]));
    this.#last = commit.catch(() => {});
    return commit;
  }

  async #commit(logs: readonly Committable[]): Promise<void> {
    const dirty = logs.flatMap((log) => {
      // It may have been lost, and begun anew, while the commit before this one was under way.
      const offset = log.gone ? undefined : log.uncommitted();
      return offset ? [{ log, offset }] : [];
    });
    if (dirty.length === 0) return;
    const offsets = dirty.map(({ offset }) => offset);
    let errors = await this.#client.commitOffsets(this.#member(), offsets);
    if (errors.includes("OFFSET_METADATA_TOO_LARGE")) {
      // This broker has less room for it than is usual: what was settled ahead may come again.
      const bare = offsets.map((offset) => ({ ...offset, metadata: "" }));
      errors = await this.#client.commitOffsets(this.#member(), bare);
    }
    let problem = "";
    for (const [index, { log, offset }] of dirty.entries()) {
      if (errors[index] === "") log.wasCommitted(offset);
      else problem = errors[index]!;
    }
    if (problem === "") return;
    const kind = groupChanges.has(problem) || problem.includes("COORDINATOR") ? "unavailable" : "refused";
    throw new KafkaError(kind, `Kafka did not take the group's position (${problem})`, problem);
  }
}
