/**
 * A place in a consumer group: joined, kept by heartbeats that do not wait for anything that is handled, joined again
 * when members come and go, and left at once.
 */
import type { KafkaClient, TopicPartition } from "../client.ts";
import { hasCode, KafkaError } from "../errors.ts";
import { abortable, backoffMs, pause } from "../patience.ts";
import { assign } from "./assignor.ts";
import {
  cooperativeSticky,
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
} from "./protocol.ts";

/** How a member behaves. */
export interface MembershipSettings {
  readonly group: string;
  /** Without a heartbeat for this long the others take over. */
  readonly sessionTimeoutMs: number;
  readonly heartbeatMs: number;
}

/** What a membership is for. */
export interface MembershipHost {
  /** The topics to be read now. */
  topics(): readonly string[];
  /** What is being read, or being let go. */
  owned(): readonly TopicPartition[];
  /** The number of partitions of each topic that exists. */
  partitionCounts(topics: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /** This is what is to be read from now on. */
  assigned(partitions: readonly TopicPartition[]): void;
  /** Others have taken over everything: nothing that was read from it is ours any more. */
  lost(): void;
  /** After a time without contact to the group, it is known again that the place in it is ours. */
  regained(): void;
  log(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** How many times the session's length the others may take to join again. */
const rebalanceSessions = 3;
/** How often a heartbeat that is not answered may be sent again, on another connection, before the session ends. */
const heartbeatsASession = 3;

/** See the head of this file. */
export class Membership {
  readonly #client: KafkaClient;
  readonly #settings: MembershipSettings;
  readonly #host: MembershipHost;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;
  #memberId = "";
  #generation = -1;
  #contact = { monotonicMs: Number.NEGATIVE_INFINITY, wallMs: 0 };
  #joining = false;
  #rejoin = false;
  #wake: AbortController | undefined;
  #refusal: KafkaError | undefined;
  #out = false;
  #sharedCounts: ReadonlyMap<string, number> | undefined;

  constructor(client: KafkaClient, settings: MembershipSettings, host: MembershipHost) {
    this.#client = client;
    this.#settings = settings;
    this.#host = host;
  }

  /** Begins. Returns at once. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** What commits need; a generation of -1 before the first join. */
  get member(): { readonly group: string; readonly memberId: string; readonly generation: number } {
    return { group: this.#settings.group, memberId: this.#memberId, generation: this.#generation };
  }

  /** The numbers of partitions that were shared out last; undefined when another member did so. */
  get sharedCounts(): ReadonlyMap<string, number> | undefined {
    return this.#sharedCounts;
  }

  /** Why the broker does not let it in, when that is so. */
  get refusal(): KafkaError | undefined {
    return this.#refusal;
  }

  /** Whether the group still counts on this member, as far as can be known: else others may have its partitions. */
  get sound(): boolean {
    const { sessionTimeoutMs } = this.#settings;
    const graceMs = this.#joining ? sessionTimeoutMs * (1 + rebalanceSessions) : sessionTimeoutMs;
    const sound = this.#silentMs() < graceMs;
    if (!sound) this.#out = true;
    return sound;
  }

  /** Topics, or what is owned, have changed: the group is to share out anew. */
  rejoin(): void {
    this.#rejoin = true;
    this.#wake?.abort();
  }

  /** Leaves the group through another client, because this one may be waiting for an answer. Never throws. */
  async close(through: KafkaClient, withinMs: number): Promise<void> {
    this.#closing.abort();
    this.#wake?.abort();
    const memberId = this.#memberId;
    if (memberId === "") return;
    this.#memberId = "";
    try {
      const left = through.leaveGroup(this.#settings.group, memberId);
      await abortable(left, AbortSignal.timeout(withinMs));
    } catch (error) {
      this.#host.log("leaving the group failed; it will notice by itself", { err: error });
    }
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      try {
        await this.#join();
        failures = 0;
        await this.#keep();
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        failures += 1;
        this.#note(error);
        if (!hasCode(error, "REBALANCE_IN_PROGRESS")) await pause(backoffMs(failures), this.#closing.signal);
      }
    }
  }

  async #join(): Promise<void> {
    const { group, sessionTimeoutMs } = this.#settings;
    this.#rejoin = false;
    this.#joining = true;
    try {
      const subscription = {
        topics: this.#host.topics(),
        owned: this.#host.owned(),
        generation: this.#generation,
      };
      const request = {
        group,
        memberId: this.#memberId,
        sessionTimeoutMs,
        rebalanceTimeoutMs: sessionTimeoutMs * rebalanceSessions,
        protocols: [{ name: cooperativeSticky, metadata: encodeSubscription(subscription) }],
      };
      const joined = await this.#client.joinGroup(request, (memberId) => {
        this.#memberId = memberId;
      });
      this.#memberId = joined.memberId;
      this.#generation = joined.generation;
      this.#sharedCounts = undefined;
      const assignments = joined.leader ? await this.#share(joined.members) : [];
      const mine = await this.#client.syncGroup({ ...this.member, assignments });
      this.#touch();
      this.#refusal = undefined;
      const partitions = decodeAssignment(mine);
      this.#host.log("joined the group", { generation: joined.generation, partitions: partitions.length });
      if (!this.#closing.signal.aborted) this.#host.assigned(partitions);
    } finally {
      this.#joining = false;
    }
  }

  async #share(members: readonly { readonly memberId: string; readonly bytes: Buffer }[]) {
    const all = members.map(({ memberId, bytes }) => ({ id: memberId, ...decodeSubscription(bytes) }));
    const topics = [...new Set(all.flatMap((member) => member.topics))];
    const counts = await this.#host.partitionCounts(topics);
    this.#sharedCounts = counts;
    return [...assign(all, counts)].map(([memberId, partitions]) => ({
      memberId,
      bytes: encodeAssignment(partitions),
    }));
  }

  /** Sends heartbeats until the group is to be joined again, and then throws or returns. */
  async #keep(): Promise<void> {
    while (!this.#rejoin && !this.#closing.signal.aborted) {
      this.#wake = new AbortController();
      await pause(this.#settings.heartbeatMs, this.#wake.signal);
      if (this.#rejoin || this.#closing.signal.aborted) return;
      try {
        await this.#client.heartbeat(this.member, this.#settings.sessionTimeoutMs / heartbeatsASession);
        this.#touch();
      } catch (error) {
        const about = ["REBALANCE_IN_PROGRESS", "UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION"];
        if (!(error instanceof KafkaError) || error.kind !== "unavailable" || hasCode(error, ...about))
          throw error;
        this.#host.log("a heartbeat did not get through", { err: error });
      }
    }
  }

  #touch(): void {
    // A process that was stopped for a while does not know yet that its time has run out.
    const regained = this.#out || this.#silentMs() > this.#settings.sessionTimeoutMs;
    this.#contact = { monotonicMs: performance.now(), wallMs: Date.now() };
    this.#out = false;
    if (regained) this.#host.regained();
  }

  /**
   * For how long the group has not answered. The clock on the wall may be put back, and the other one stands still while
   * the machine sleeps: whichever says more is believed, because to be too careful costs one heartbeat.
   */
  #silentMs(): number {
    const { monotonicMs, wallMs } = this.#contact;
    return Math.max(performance.now() - monotonicMs, Date.now() - wallMs);
  }

  #note(error: unknown): void {
    if (hasCode(error, "UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION")) {
      if (hasCode(error, "UNKNOWN_MEMBER_ID")) this.#memberId = "";
      this.#generation = -1;
      this.#host.lost();
    }
    if (error instanceof KafkaError && error.kind === "refused") this.#refusal = error;
    this.#host.log("the group has to be joined again", { err: error });
  }
}
