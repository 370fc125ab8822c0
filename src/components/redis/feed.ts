/** What one member reads of one topic: every script of its group goes through here. */
import type { Call } from "../../blocks/call.ts";
import { OrderConflict, type Received, type Settlement } from "../../blocks/pubsub/driver.ts";
import type { Log } from "../../telemetry/log.ts";
import { fromFields, keyBytesOf } from "./entry-fields.ts";
import { isNoGroup, RedisFailure } from "./errors.ts";
import { beatScript, joinScript, lagScript, leaveScript, renameScript } from "./group-scripts.ts";
import type { Argument, Link, Reply } from "./link.ts";
import type { Script } from "./script.ts";
import { limitOf, type StreamSettings } from "./settings.ts";
import { TopicKeys } from "./stream-keys.ts";
import { receiveScript, settleScript } from "./stream-scripts.ts";
import type { Topics } from "./topics.ts";

/** How long a member lives that gives no sign of life, in milliseconds. */
const leaseMs = 5000;
/** How long health tells that Redis had lost a group, in milliseconds. */
const tellLossForMs = 10 * 60 * 1000;
/** How long a broadcast's group lives whose member gives no sign of life, in milliseconds. */
const broadcastLeaseMs = 60_000;
/** When nobody has looked after a group for so long, nobody could give a sign of life either. */
const pauseMs = 3500;
/** How long members live on after such a pause without a sign. */
const graceMs = 2500;
/** Events of an ordered group that may wait behind others of their key, before no more are read. */
const maxParked = 50_000;

const repeat = { repeat: true } as const;

/** What a feed is made of. */
export interface FeedOptions {
  readonly link: Link;
  readonly log: Log;
  readonly settings: StreamSettings;
  readonly topics: Topics;
  readonly topic: string;
  /** As Redis knows it. */
  readonly group: string;
  /** True: the group ends with this member. */
  readonly broadcast: boolean;
  readonly ordered: boolean;
  readonly raw: boolean;
  /** Names the member; no other has it. */
  readonly member: string;
}

/** A received event, as its settlement names it. */
export class Receipt {
  readonly feed: Feed;
  readonly id: string;
  /** The ordering key as Redis has it, or "". */
  readonly key: Buffer | "";
  readonly attempt: number;

  constructor(feed: Feed, id: string, key: Buffer | "", attempt: number) {
    this.feed = feed;
    this.id = id;
    this.key = key;
    this.attempt = attempt;
  }
}

/** See the head of this file. */
export class Feed {
  readonly topic: string;
  readonly wakeKey: string;
  /** True: there may be something to take. */
  dirty = true;
  /** After which id of the stream, and of its wake-ups, there is news. "" for the stream: its news do not help. */
  lastId = "";
  lastWake = "0";
  /** When something is due, by `performance.now`. */
  dueAtMs = Number.POSITIVE_INFINITY;
  readonly #options: FeedOptions;
  readonly #keys: readonly string[];
  readonly #lanes: string;
  readonly #prefix: string;
  readonly #held = new Set<Receipt>();
  /** What was held, and whose settlement is on its way. */
  readonly #settling = new Set<Receipt>();
  #member: string;
  /** The name to go on under; defined while it is not known whether Redis has heard it. */
  #nextName: string | undefined;
  #names = 0;
  /** Counts how often everything that was held was lost. */
  #losses = 0;
  #lastTaken = "0";
  /** True: Redis may have given us something, or taken something back, that we do not know of, or may do so yet. */
  #uncertain = false;
  #touchedAtMs = performance.now();
  #rejoining: Promise<void> | undefined;
  /** Milliseconds since 1970; 0 for never. */
  #madeAgainAtMs = 0;
  #renaming: Promise<void> | undefined;

  constructor(options: FeedOptions) {
    this.#options = options;
    const keys = new TopicKeys(options.topic);
    this.topic = options.topic;
    this.#keys = keys.group(options.group);
    this.wakeKey = this.#keys[6]!;
    this.#lanes = keys.lanes(options.group);
    this.#prefix = keys.prefix;
    this.#member = options.member;
  }

  /** Joins the group, making it if need be. Throws RedisFailure or OrderConflict. */
  async join(start: string, call: Call): Promise<void> {
    await this.#join(start, call);
  }

  /** Up to `max` events. None: `lastId`, `lastWake` and `dueAtMs` say what to wait for, unless it is still `dirty`. */
  async take(max: number, call: Call): Promise<Received[]> {
    await this.#rejoining;
    if (this.#uncertain) await this.#rename(call);
    this.dirty = false;
    let answer: Reply;
    try {
      const [limit, bound] = limitOf(this.#options.settings);
      answer = await this.#run(receiveScript, [max, maxParked, limit, bound], call);
    } catch (error) {
      this.dirty = true;
      if (error instanceof RedisFailure && error.ambiguous) this.#uncertain = true;
      if (error instanceof RedisFailure && error.errorClass === "cancelled") this.#uncertain = true;
      throw error;
    }
    if (!Array.isArray(answer)) {
      await this.rejoin(call);
      return [];
    }
    const [entries, attempts, more, last, lastWake, nearest] = answer as [
      Reply[],
      number[],
      number,
      ...Reply[],
    ];
    if (entries.length > 0 || more === 1) {
      this.dirty = true;
      return entries.map((entry, index) => this.#received(entry as Reply[], attempts[index] ?? 1));
    }
    this.lastId = String(last);
    this.lastWake = String(lastWake);
    this.dueAtMs = Number(nearest) < 0 ? Number.POSITIVE_INFINITY : performance.now() + Number(nearest);
    return [];
  }

  /** True: this member holds what the receipt is of. */
  holds(receipt: Receipt): boolean {
    return this.#held.has(receipt);
  }

  async settle(settlements: readonly Settlement[], call: Call): Promise<void> {
    const args: Argument[] = [];
    const receipts = settlements.map(({ receipt }) => receipt as Receipt);
    let returns = false;
    for (const settlement of settlements) {
      const { id, key, attempt } = settlement.receipt as Receipt;
      const delayMs = settlement.kind === "again" ? Math.ceil(settlement.delayMs) : 0;
      args.push(settlement.kind, id, key, attempt, delayMs);
      returns ||= settlement.kind === "returned";
    }
    for (const receipt of receipts) {
      this.#held.delete(receipt);
      this.#settling.add(receipt);
    }
    const losses = this.#losses;
    try {
      for (;;) {
        const member = this.#member;
        // What is given back may be received again as the same attempt: then it must not be given back again.
        const answer = String(await this.#run(settleScript, args, call, { repeat: !returns }));
        if (losses !== this.#losses) return;
        if (answer === "gone" && this.#nextName !== undefined) await this.#rename(call);
        if (answer === "gone" && member !== this.#member) continue;
        if (answer === "gone") this.#lost();
        if (answer === "woken") this.dirty = true;
        return;
      }
    } catch (error) {
      if (returns) this.#uncertain = true;
      // It may be tried again.
      if (losses === this.#losses) for (const receipt of receipts) this.#held.add(receipt);
      throw error;
    } finally {
      for (const receipt of receipts) this.#settling.delete(receipt);
    }
  }

  async lag(call: Call): Promise<{ readonly events: number; readonly trimmedUnsettled: number }> {
    const [events, trimmedUnsettled] = (await this.#run(lagScript, [], call, repeat)) as [number, number];
    return { events, trimmedUnsettled };
  }

  /** Gives a sign of life, and looks after the group. Throws RedisFailure. */
  async beat(call: Call): Promise<void> {
    const { settings, broadcast, group, log } = this.#options;
    const { foreignIdleMs, sweepForeignMs, keepAliveMs, keepSettledMs, maxAgeMs } = settings;
    const nowMs = performance.now();
    const touch = foreignIdleMs > 0 && this.#held.size > 0 && nowMs - this.#touchedAtMs >= keepAliveMs;
    if (touch) this.#touchedAtMs = nowMs;
    const args = [
      leaseMs,
      broadcast ? broadcastLeaseMs : "",
      pauseMs,
      graceMs,
      foreignIdleMs,
      sweepForeignMs,
    ];
    args.push(keepSettledMs, maxAgeMs, touch ? 1 : 0, this.#prefix);
    const member = this.#member;
    const answer = await this.#run(beatScript, args, call, repeat);
    if (!Array.isArray(answer)) {
      if (member === this.#member && this.#nextName === undefined) await this.rejoin(call);
      return;
    }
    for (const dead of answer) {
      log.warn(
        { topic: this.topic, group, member: String(dead) },
        "a member is gone; others get what it held",
      );
    }
  }

  /** That Redis had lost the group not long ago; "" otherwise. */
  get trouble(): string {
    if (Date.now() - this.#madeAgainAtMs > tellLossForMs) return "";
    const at = new Date(this.#madeAgainAtMs).toISOString();
    return `Redis had lost the group "${this.#options.group}" of topic "${this.topic}", which was made again at ${at}`;
  }

  /** Joins again, because the group or the membership is gone. What was held is somebody else's now, or nobody's. */
  rejoin(call: Call): Promise<void> {
    this.#rejoining ??= this.#rejoin(call).finally(() => {
      this.#rejoining = undefined;
    });
    return this.#rejoining;
  }

  /** Leaves the group, and gives back what is held. Throws RedisFailure. */
  async leave(call: Call): Promise<void> {
    // And nobody joins again for a settlement that is on its way.
    this.#lost();
    const next = this.#nextName === undefined ? [] : [this.#nextName];
    await this.#run(leaveScript, [this.#options.broadcast ? 1 : 0, ...next], call, repeat);
  }

  async #rejoin(call: Call): Promise<void> {
    const { broadcast, group, log, topics } = this.#options;
    const held = this.#held.size;
    this.#lost();
    // A group that was there before has read all but what it finds now; a broadcast knows how far it was.
    const made = await this.#join(broadcast ? this.#lastTaken : "0", call);
    const details = { topic: this.topic, group, held };
    if (!made) {
      log.warn(details, "this member was thought to be dead; others have what it held");
      return;
    }
    log.warn(details, "the consumer group was gone, and has been made again");
    this.#madeAgainAtMs = Date.now();
    // If Redis has lost everything, then the list of topics too.
    await topics.add(this.topic, call);
  }

  async #join(start: string, call: Call): Promise<boolean> {
    const { broadcast, group, topic } = this.#options;
    // Under another name each time: what an earlier one is given late, nobody takes for ours.
    this.#member = this.#newName();
    this.#nextName = undefined;
    const args = [start, leaseMs, broadcast ? broadcastLeaseMs : ""];
    const answer = await this.#run(joinScript, args, call, repeat);
    if (String(answer) === "disagree") {
      const text = `the members of group "${group}" of topic "${topic}" must agree in whether it is ordered`;
      throw new OrderConflict(text);
    }
    this.dirty = true;
    return answer === 1;
  }

  #newName(): string {
    this.#names += 1;
    return `${this.#options.member}-${this.#names}`;
  }

  #lost(): void {
    this.#losses += 1;
    this.#held.clear();
    this.#uncertain = false;
    this.dirty = true;
  }

  /** Goes on under another name. What Redis has given us in an answer that never came is given back. */
  #rename(call: Call): Promise<void> {
    this.#renaming ??= this.#goOnAsNext(call).finally(() => {
      this.#renaming = undefined;
    });
    return this.#renaming;
  }

  async #goOnAsNext(call: Call): Promise<void> {
    const ids = [...this.#held, ...this.#settling].map(({ id }) => id);
    this.#nextName ??= this.#newName();
    const losses = this.#losses;
    const answer = await this.#run(renameScript, [this.#nextName, leaseMs, ...ids], call, repeat);
    // It has joined anew meanwhile.
    if (losses !== this.#losses) return;
    if (!Array.isArray(answer)) return this.rejoin(call);
    this.#member = this.#nextName;
    this.#nextName = undefined;
    this.#uncertain = false;
    const kept = new Set(answer.map(String));
    // What it does not have any more had been settled, or given back.
    for (const receipt of this.#held) if (!kept.has(receipt.id)) this.#held.delete(receipt);
  }

  #received([idReply, fields]: readonly Reply[], attempt: number): Received {
    const id = String(idReply);
    const content = fromFields(id, fields as Reply[], this.#options.raw);
    const key = this.#options.ordered ? keyBytesOf(fields as Reply[]) : undefined;
    const receipt = new Receipt(this, id, key ?? "", attempt);
    this.#held.add(receipt);
    this.#lastTaken = id;
    return { receipt, topic: this.topic, position: id, attempt, ...content };
  }

  async #run(
    script: Script,
    args: readonly Argument[],
    call: Call,
    sending: { readonly repeat?: boolean } = {},
  ): Promise<Reply> {
    const { link, group, ordered } = this.#options;
    const first: Argument[] = [group, this.#member, this.#lanes, ordered ? 1 : 0];
    try {
      return await link.run(script, this.#keys, first.concat(args), call, sending);
    } catch (error) {
      if (isNoGroup(error)) return Buffer.from("gone");
      throw error;
    }
  }
}
