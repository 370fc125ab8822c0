/** All tables of a file, and the transactions over them. */
import type { WorkerSettings } from "../messages.ts";
import { BlobTable } from "./blobs.ts";
import { Counters } from "./counters.ts";
import { DeliveryTable } from "./deliveries.ts";
import { StoreFile } from "./file.ts";
import { GroupTable } from "./groups.ts";
import { ItemTable } from "./items.ts";
import { ProcessTable } from "./processes.ts";
import { Receivers } from "./receivers.ts";
import { Retention } from "./retention.ts";
import { TopicTable } from "./topics.ts";
import { Watchers } from "./watchers.ts";

/** Counters that move when something happens that others may wait for. */
const news = ["event", "wake", "revision"] as const;

/** What is in a file, and who waits for it in this process. */
export class Tables {
  readonly file: StoreFile;
  readonly counters: Counters;
  readonly blobs: BlobTable;
  readonly items: ItemTable;
  readonly topics: TopicTable;
  readonly groups: GroupTable;
  readonly deliveries: DeliveryTable;
  readonly processes: ProcessTable;
  readonly retention: Retention;
  readonly receivers: Receivers;
  readonly watchers: Watchers;
  /** How often each state store forgets what has expired, in milliseconds. */
  readonly cleanupIntervalsMs = new Map<number, number>();
  /** Set by every transaction that may have made another time the next to wait for. */
  timesChanged = true;
  /** Whether items have changed since somebody set it back. */
  revisionsChanged = false;
  /** Set by every transaction that others may wait for. */
  newsForOthers = false;
  /** The last numbers that this process gave. */
  lastEvent = 0;
  lastWake = 0;

  /** Opens the file. Throws StoreError. */
  constructor({ path, instanceId, lockLimitMs }: WorkerSettings) {
    this.file = new StoreFile(path, lockLimitMs);
    this.counters = new Counters(this.file);
    this.blobs = new BlobTable(this.file, this.counters, () => this.processes.self());
    this.items = new ItemTable(this.file, this.counters, this.blobs);
    this.topics = new TopicTable(this.file, this.counters);
    this.groups = new GroupTable(this.file, this.counters, this.topics);
    this.deliveries = new DeliveryTable(this.file, this.topics, this.groups);
    this.processes = new ProcessTable(
      this.file,
      instanceId,
      this.counters,
      this.groups,
      () => this.deliveries,
    );
    this.retention = new Retention(this.file, this.topics, this.groups, this.deliveries);
    this.receivers = new Receivers(this.groups, this.deliveries);
    this.watchers = new Watchers(this.file, this.items, this.counters);
  }

  /** Runs in a read transaction. */
  read<T>(body: () => T): T {
    try {
      return this.file.read(body);
    } finally {
      this.#reset(true);
    }
  }

  /** Runs in a write transaction, all or nothing. Throws what `body` throws, and StoreError. */
  write(durable: boolean, body: () => void, bytes = 0): void {
    try {
      this.file.setDurable(durable);
      this.file.begin();
      body();
      this.topics.flush();
      this.groups.flush();
      this.counters.flush();
      this.file.commit(bytes);
    } catch (error) {
      this.file.rollback();
      this.#reset(false);
      throw error;
    }
    for (const topic of this.topics.published) this.retention.consider(topic);
    if (this.topics.scheduled || this.counters.changed("revision")) this.timesChanged = true;
    if (this.counters.changed("revision")) this.revisionsChanged = true;
    if (this.counters.changed("event")) this.lastEvent = this.counters.last("event");
    if (this.counters.changed("wake")) this.lastWake = this.counters.last("wake");
    if (news.some((counter) => this.counters.changed(counter))) this.newsForOthers = true;
    this.#reset(true);
  }

  #reset(committed: boolean): void {
    this.counters.reset();
    this.topics.reset(committed);
    this.groups.reset();
  }
}
