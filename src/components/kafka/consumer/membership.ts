/**
 * A place in a consumer group: joined, kept by heartbeats that do not wait for anything that is handled, joined again
 * when members come and go, and left at once.
 */
import { pause } from "../../../pause.ts";
import type { GroupMemberId, JoinResult, KafkaClient, TopicPartition } from "../client.ts";
import { hasCode, KafkaError } from "../errors.ts";
import { abortable, retryMs } from "../patience.ts";
import { assign } from "./assignor.ts";
import {
  cooperativeSticky,
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
  type Grounds,
  type Subscription,
} from "./protocol.ts";

/** How a member behaves. */
export interface MembershipSettings {
  readonly group: string;
  /** The name that its place is kept under until the session ends, for who comes back with it; "" for none. */
  readonly instanceId: string;
  /** By group: the id of this process's last member, while another one with its `instanceId` has its place. */
  readonly putOut: Map<string, string>;
  /** Without a heartbeat for this long the others take over. */
  readonly sessionTimeoutMs: number;
  readonly heartbeatMs: number;
}

/** How it is spoken to the group. */
export interface MembershipClients {
  /** Connections of its own: those who join wait there until the others have. */
  readonly own: KafkaClient;
  /** Others, for what has to get through meanwhile. */
  readonly shared: KafkaClient;
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
  /** Something that an operator should see. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** How many times the session's length the others may take to join again. */
const rebalanceSessions = 3;
/** How often a heartbeat that is not answered may be sent again, on another connection, before the session ends. */
const heartbeatsASession = 3;

/** A time, by both clocks. */
interface Moment {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

function moment(): Moment {
  return { monotonicMs: performance.now(), wallMs: Date.now() };
}

/** See the head of this file. */
export class Membership {
  readonly #clients: MembershipClients;
  readonly #settings: MembershipSettings;
  readonly #host: MembershipHost;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;
  #memberId = "";
  #generation = -1;
  /** When it was sent what the group has answered last. */
  #contact: Moment = { monotonicMs: Number.NEGATIVE_INFINITY, wallMs: 0 };
  #rejoin = false;
  #wake: AbortController | undefined;
  #refusal: KafkaError | undefined;
  #out = false;
  #sharedCounts: ReadonlyMap<string, number> | undefined;
  /** What the place of a static member rests on; undefined while it is not known. */
  #grounds: Grounds | undefined;

  constructor(clients: MembershipClients, settings: MembershipSettings, host: MembershipHost) {
    this.#clients = clients;
    this.#settings = settings;
    this.#host = host;
    this.#memberId = settings.putOut.get(settings.group) ?? "";
  }

  /** Begins. Returns at once. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** What commits need; a generation of -1 before the first join. */
  get member(): GroupMemberId {
    const { group, instanceId } = this.#settings;
    return { group, instanceId, memberId: this.#memberId, generation: this.#generation };
  }

  /** The numbers of partitions that were shared out last; undefined when that is not known here. */
  get sharedCounts(): ReadonlyMap<string, number> | undefined {
    return this.#sharedCounts ?? this.#grounds?.counts;
  }

  /**
   * With an `instanceId`: the topics that this member's share is of. One that came back has the share of who was here
   * before, which may be of more topics than it has asked for yet. Undefined when that is not known.
   */
  get sharedTopics(): ReadonlySet<string> | undefined {
    return this.#grounds && new Set(this.#grounds.counts.keys());
  }

  /** What keeps it out although the broker answers; "" for nothing. */
  get trouble(): string {
    const { group, instanceId } = this.#settings;
    return this.#putOut
      ? `another member of the group "${group}" has come with the same groupInstanceId "${instanceId}"; nothing is read here while it is there`
      : "";
  }

  /** Why the broker does not let it in, when that is so. */
  get refusal(): KafkaError | undefined {
    return this.#refusal;
  }

  /** Whether the group still counts on this member, as far as can be known: else others may have its partitions. */
  get sound(): boolean {
    const sound = this.#silentMs() < this.#settings.sessionTimeoutMs;
    if (!sound) this.#out = true;
    return sound;
  }

  /** Topics, or what is owned, have changed: the group is to share out anew. */
  rejoin(): void {
    this.#rejoin = true;
    this.#wake?.abort();
  }

  /** Leaves the group. Never throws. */
  async close(withinMs: number): Promise<void> {
    this.#closing.abort();
    this.#wake?.abort();
    const { member } = this;
    // Who was put out of its place has none to leave. A name is enough to leave, also before the first answer is here.
    const nobody = member.memberId === "" && member.instanceId === "";
    if (this.#running === undefined || nobody || this.#putOut) return;
    this.#memberId = "";
    try {
      const left = this.#clients.shared.leaveGroup(member);
      await abortable(left, AbortSignal.timeout(withinMs));
    } catch (error) {
      this.#host.log("leaving the group failed; it will notice by itself", { err: error });
    }
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      try {
        if (this.#putOut) await this.#waitForPlace();
        await this.#join();
        failures = 0;
        await this.#keep();
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        failures += 1;
        this.#note(error);
        if (!hasCode(error, "REBALANCE_IN_PROGRESS"))
          await pause(retryMs(failures), this.#closing.signal, { ref: false });
      }
    }
  }

  get #putOut(): boolean {
    return this.#settings.putOut.has(this.#settings.group);
  }

  /**
   * Whoever joined with the name of one who is here would have the place in its stead, and be put out in turn. The old
   * id is the question whether the other is still there: while it is, the broker says who has the place.
   */
  async #waitForPlace(): Promise<void> {
    for (;;) {
      try {
        await this.#heartbeat(this.#clients.shared);
      } catch (error) {
        if (hasCode(error, "UNKNOWN_MEMBER_ID")) break;
      }
      await pause(this.#settings.heartbeatMs, this.#closing.signal, { ref: false });
      if (this.#closing.signal.aborted) return;
    }
    this.#settings.putOut.delete(this.#settings.group);
    this.#memberId = "";
    this.#host.warn("the other member with this groupInstanceId has gone; joining the group again");
  }

  async #join(): Promise<void> {
    const { group, instanceId, sessionTimeoutMs } = this.#settings;
    const { own } = this.#clients;
    if (this.#closing.signal.aborted) return;
    this.#rejoin = false;
    this.#grounds = undefined;
    const anew = this.#memberId === "";
    const joining = new AbortController();
    void this.#keepMeanwhile(joining.signal);
    try {
      const subscription = {
        topics: this.#host.topics(),
        owned: this.#host.owned(),
        generation: this.#generation,
      };
      const request = {
        group,
        memberId: this.#memberId,
        instanceId,
        sessionTimeoutMs,
        rebalanceTimeoutMs: sessionTimeoutMs * rebalanceSessions,
        protocols: [{ name: cooperativeSticky, metadata: encodeSubscription(subscription) }],
      };
      const joined = await own.joinGroup(request, (memberId) => {
        this.#memberId = memberId;
      });
      this.#memberId = joined.memberId;
      this.#generation = joined.generation;
      this.#sharedCounts = undefined;
      const assignments = joined.leader ? await this.#share(joined.members) : [];
      const at = moment();
      const mine = await own.syncGroup({ ...this.member, assignments });
      this.#answered(at);
      this.#refusal = undefined;
      const { partitions, grounds } = decodeAssignment(mine);
      if (instanceId !== "") this.#keepGrounds(grounds, anew);
      this.#host.log("joined the group", { generation: joined.generation, partitions: partitions.length });
      if (!this.#closing.signal.aborted) this.#host.assigned(partitions);
    } finally {
      joining.abort();
    }
  }

  /**
   * Who comes back in time is given what was there before, and nobody is asked: neither who shares out nor the others.
   * If it is not what would be given now, they are.
   */
  #keepGrounds(grounds: Grounds | undefined, anew: boolean): void {
    this.#grounds = grounds;
    // Topics that were added meanwhile may be in what was there before, too.
    if (anew) this.#rejoin = !this.#holds(grounds);
  }

  #holds(grounds: Grounds | undefined): boolean {
    if (grounds === undefined || grounds.awaited) return false;
    return this.#host.topics().every((topic) => grounds.counts.has(topic));
  }

  async #share(members: JoinResult["members"]) {
    const all = members.map(({ memberId, instanceId, bytes }) => ({
      id: memberId,
      instanceId,
      ...decodeSubscription(bytes),
    }));
    const topics = [...new Set(all.flatMap((member) => member.topics))];
    const counts = await this.#host.partitionCounts(topics);
    this.#sharedCounts = counts;
    const shares = assign(all, counts);
    return all.map((member) => {
      const partitions = shares.get(member.id) ?? [];
      const grounds = member.instanceId === "" ? undefined : groundsOf(member, partitions, counts);
      return { memberId: member.id, bytes: encodeAssignment({ partitions, grounds }) };
    });
  }

  /** Sends heartbeats until the group is to be joined again, and then throws or returns. */
  async #keep(): Promise<void> {
    while (!this.#rejoin && !this.#closing.signal.aborted) {
      this.#wake = new AbortController();
      await pause(this.#settings.heartbeatMs, this.#wake.signal, { ref: false });
      if (this.#rejoin || this.#closing.signal.aborted) return;
      try {
        await this.#heartbeat(this.#clients.own);
      } catch (error) {
        const about = ["REBALANCE_IN_PROGRESS", "UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION"];
        if (!(error instanceof KafkaError) || error.kind !== "unavailable" || hasCode(error, ...about))
          throw error;
        this.#host.log("a heartbeat did not get through", { err: error });
      }
    }
  }

  /**
   * Joining takes as long as the slowest of the others, and nobody knows whether the broker has heard of it: heartbeats
   * tell for how long this member may go on meanwhile.
   */
  async #keepMeanwhile(over: AbortSignal): Promise<void> {
    for (;;) {
      await pause(this.#settings.heartbeatMs, over, { ref: false });
      if (over.aborted) return;
      if (this.#generation >= 0) await this.#heartbeat(this.#clients.shared).catch(() => {});
    }
  }

  async #heartbeat(client: KafkaClient): Promise<void> {
    const at = moment();
    try {
      await client.heartbeat(this.member, this.#settings.sessionTimeoutMs / heartbeatsASession);
      this.#answered(at);
    } catch (error) {
      if (hasCode(error, "REBALANCE_IN_PROGRESS")) this.#answered(at);
      throw error;
    }
  }

  /** The group has answered, as a member, who asked at this moment. A process that was stopped since may read it long after. */
  #answered(at: Moment): void {
    // Two connections may answer in another order than they were asked in.
    if (at.monotonicMs < this.#contact.monotonicMs) return;
    const silent = !this.sound;
    this.#contact = at;
    if (!silent && !this.#out) return;
    this.#out = false;
    if (this.sound) this.#host.regained();
  }

  /**
   * For how long the group has not answered. The clock on the wall may be put back, and the other one stands still while
   * the machine sleeps: whichever says more is believed, because to be too careful costs one heartbeat.
   */
  #silentMs(): number {
    const now = moment();
    return Math.max(now.monotonicMs - this.#contact.monotonicMs, now.wallMs - this.#contact.wallMs);
  }

  #note(error: unknown): void {
    if (hasCode(error, "UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION")) {
      if (hasCode(error, "UNKNOWN_MEMBER_ID")) this.#memberId = "";
      this.#generation = -1;
      this.#host.lost();
    }
    if (hasCode(error, "FENCED_INSTANCE_ID")) {
      this.#settings.putOut.set(this.#settings.group, this.#memberId);
      this.#generation = -1;
      this.#grounds = undefined;
      this.#host.lost();
      this.#host.warn(this.trouble, { err: error });
      return;
    }
    if (error instanceof KafkaError && error.kind === "refused") {
      if (this.#refusal === undefined)
        this.#host.warn("the broker refuses this member; trying again", { err: error });
      this.#refusal = error;
    }
    this.#host.log("the group has to be joined again", { err: error });
  }
}

function groundsOf(
  { topics, owned }: Subscription,
  partitions: readonly TopicPartition[],
  counts: ReadonlyMap<string, number>,
): Grounds {
  const keys = new Set(partitions.map(({ topic, partition }) => `${partition}/${topic}`));
  return {
    counts: new Map(topics.flatMap((topic) => (counts.has(topic) ? [[topic, counts.get(topic)!]] : []))),
    awaited: owned.some(({ topic, partition }) => !keys.has(`${partition}/${topic}`)),
  };
}
