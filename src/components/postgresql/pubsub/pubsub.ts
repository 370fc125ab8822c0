/** pubsub.postgresql: a log of events in tables. */
import type { Call } from "../../../blocks/call.ts";
import {
  type DriverSubscription,
  OrderConflict,
  type Outgoing,
  type Published,
  type PubSubDriver,
  type StartAt,
  type SubscriptionSpec,
  UnknownPosition,
} from "../../../blocks/pubsub/driver.ts";
import type { OpenContext } from "../../../component.ts";
import { Bell } from "../bell.ts";
import type { Database } from "../database.ts";
import { classify, PostgresError, raised } from "../errors.ts";
import { Listener } from "../listener.ts";
import { Keeper } from "./keeper.ts";
import { patternOf } from "./patterns.ts";
import { Publisher } from "./publisher.ts";
import { groupWord, Receivers, topicWord } from "./receivers.ts";
import { Sidecars } from "./sidecars.ts";
import { PostgresSubscription } from "./subscription.ts";
import type { Tables } from "./tables.ts";

/** How long leaving may take when the component closes. */
const leaveWithinMs = 3000;

/** How long the first subscription waits for the session lock: it is seldom more than some milliseconds. */
const lockWithinMs = 1000;

/** A broker on a server. */
export class PostgresPubSub implements PubSubDriver {
  readonly supports = {
    delay: true,
    ordering: true,
    wildcards: true,
    positions: true,
    startAtTime: true,
    lag: true,
    durableAttempts: true,
  };
  readonly classify = classify;
  readonly #database: Database;
  readonly #tables: Tables;
  readonly #join: string;
  readonly #receivers = new Receivers();
  readonly #subscriptions = new Set<PostgresSubscription>();
  readonly #publisher: Publisher;
  readonly #sidecars: Sidecars;
  readonly #bell: Bell;
  readonly #listener: Listener;
  readonly #keeper: Keeper;

  /** Works on tables that are there. */
  constructor(
    database: Database,
    tables: Tables,
    retention: { readonly ageMs: number; readonly bytes: number },
    { instanceId, appId, telemetry: { log } }: Pick<OpenContext, "instanceId" | "appId" | "telemetry">,
  ) {
    this.#database = database;
    this.#tables = tables;
    this.#join = `SELECT member, group_id, topic_id FROM ${tables.join}($1, $2, $3, $4, $5, $6, $7, $8, $9)`;
    this.#bell = new Bell(database, tables.channel);
    const sidecars = new Sidecars(database, tables, instanceId, appId, log);
    this.#sidecars = sidecars;
    this.#listener = new Listener(
      database,
      tables.channel,
      {
        onNews: (payload) => this.#receivers.hear(payload),
        onChange: () => {
          this.#receivers.wakeAll();
          this.#keeper.beatSoon();
        },
      },
      log,
      {
        numbers: () => (sidecars.self === 0 ? undefined : [tables.lockClass, sidecars.self]),
        onLocked: () => sidecars.locked({ signal: database.closing }),
      },
    );
    this.#keeper = new Keeper(
      database,
      tables,
      retention,
      sidecars,
      this.#receivers,
      this.#listener,
      this.#bell,
      log,
    );
    this.#publisher = new Publisher(database, tables, {
      onPublished: (topic, others) => {
        this.#receivers.wakeTopic(topic);
        if (others) this.#bell.ring(topicWord(topic));
        this.#keeper.trimSoon();
      },
      onScheduled: (dueAtMs) => this.#keeper.enterAt(dueAtMs),
      get sidecar() {
        return sidecars.self;
      },
    });
  }

  /** Begins what goes on beside the calls. */
  start(): void {
    this.#keeper.start();
  }

  publish(topic: string, events: readonly Outgoing[], call: Call): Promise<readonly Published[]> {
    return this.#publisher.publish(topic, events, call);
  }

  async open(spec: SubscriptionSpec, call: Call): Promise<DriverSubscription> {
    const { raw } = spec;
    call.signal.throwIfAborted();
    // A member that nobody knows would hold events for ever: its number is waited for.
    const unconditional = { signal: this.#database.closing };
    const sidecar = await this.#sidecars.register(unconditional);
    this.#listener.start();
    // Others find out at once when a member with the lock dies.
    await this.#listener.tried(lockWithinMs);
    const { member, group_id, topic_id } = await this.#joinAs(sidecar, spec, unconditional);
    const membership = { member, group: group_id, topic: topic_id ?? undefined, raw };
    const subscription = new PostgresSubscription(this.#database, this.#tables, membership, this.#receivers, {
      onFreed: (freed) => this.#free(freed),
      onDone: () => this.#keeper.trimSoon(),
      onClose: () => this.#subscriptions.delete(subscription),
      onStuck: (stuck) => this.#keeper.leaveLater(stuck),
    });
    this.#subscriptions.add(subscription);
    if (call.signal.aborted) {
      await subscription.close();
      throw call.signal.reason;
    }
    return subscription;
  }

  async ping(call: Call): Promise<void> {
    await this.#database.query("SELECT 1", [], call, { idempotent: true });
  }

  async close(): Promise<void> {
    await this.#keeper.close();
    await Promise.allSettled([...this.#subscriptions].map((subscription) => subscription.close()));
    const call = { signal: AbortSignal.timeout(leaveWithinMs) };
    // When it fails, others find out.
    await this.#sidecars.leave(call).catch(() => undefined);
    await this.#listener.close();
    await this.#database.close();
  }

  /** Adds a member; as another sidecar when others have taken this one for dead. */
  async #joinAs(sidecar: number, spec: SubscriptionSpec, call: Call): Promise<JoinRow> {
    const { topic, group, ordered, start } = spec;
    const join = async (as: number) => {
      const values = [topic, patternOf(topic) ?? null, group ?? null, ordered, ...startOf(start), as];
      try {
        const [row] = await this.#database.query<JoinRow>(this.#join, values, call);
        return row!;
      } catch (error) {
        throw openErrorOf(error);
      }
    };
    try {
      return await join(sidecar);
    } catch (error) {
      if (!(error instanceof PostgresError && error.code === raised.memberGone)) throw error;
      const renewed = await this.#sidecars.renew(sidecar, call);
      // The lock is that of the old number.
      this.#listener.reconnect();
      return await join(renewed);
    }
  }

  #free(group: number): void {
    this.#receivers.wakeGroup(group);
    this.#bell.ring(groupWord(group));
  }
}

interface JoinRow extends Record<string, unknown> {
  readonly member: number;
  readonly group_id: number;
  readonly topic_id: number | null;
}

/** What `open` says, where one of our functions has raised it. */
function openErrorOf(error: unknown): unknown {
  if (!(error instanceof PostgresError)) return error;
  if (error.code === raised.unknownPosition) return new UnknownPosition(error.message, { cause: error });
  if (error.code === raised.orderConflict) return new OrderConflict(error.message, { cause: error });
  return error;
}

function startOf(start: StartAt): [string, number | null, number | null, number | null] {
  if (start.at === "time") return ["time", start.timeMs, null, null];
  if (start.at !== "position") return [start.at, null, null, null];
  const match = /^(\d{1,15})\.(\d{1,15})$/.exec(start.position);
  if (!match) throw new UnknownPosition("the position is not one of this broker");
  return ["position", null, Number(match[1]), Number(match[2])];
}
