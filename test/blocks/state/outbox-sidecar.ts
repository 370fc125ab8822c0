/** Stores with an outbox, as sidecars have them, over a driver of a test. */
import { onTestFinished } from "vitest";
import type { Outgoing } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { StateDriver, Write } from "../../../src/blocks/state/driver.ts";
import { Outbox } from "../../../src/blocks/state/outbox.ts";
import { notesPrefix } from "../../../src/blocks/state/outbox-note.ts";
import type { PublishEvents } from "../../../src/blocks/state/outbox-publisher.ts";
import type { SetInput, WriteInput } from "../../../src/blocks/state/requests.ts";
import { type StateSettings, stateSettings } from "../../../src/blocks/state/settings.ts";
import { StateStore } from "../../../src/blocks/state/store.ts";
import { quietTelemetry } from "../../telemetry/quiet-telemetry.ts";
import { bytesOf } from "./state-client.ts";

/** A call that may take its time on a real server. */
export const call = () => ({ signal: AbortSignal.timeout(20_000) });
/** Where the events go. */
export const target = { component: "bus", topic: "changes" };

/** A sidecar, as far as its store is concerned. */
export interface Sidecar {
  readonly store: StateStore;
  readonly outbox: Outbox;
}

/** What was published, as "key=text"; a deletion is "key deleted". */
export class Published {
  readonly events: Outgoing[] = [];
  /** While set, the broker is away. */
  away = false;

  readonly publish: PublishEvents = async (_, events) => {
    if (this.away) throw new Error("the broker is away");
    this.events.push(...events);
    return events.map(() => ({ id: "", position: "" }));
  };

  get texts(): string[] {
    return this.events.map(({ key, event }) =>
      event!.type === "dev.outrider.state.deleted" ? `${key} deleted` : `${key}=${Buffer.from(event!.data)}`,
    );
  }
}

/** A sidecar of the application "app", or of another. Its outbox ends with the test. */
export function sidecar(
  driver: StateDriver,
  publish: PublishEvents,
  options: {
    readonly appId?: string;
    readonly instanceId?: string;
    readonly keyPrefix?: string;
    readonly start?: boolean;
  } = {},
): Sidecar {
  const { appId = "app", instanceId = "one", keyPrefix = "appid", start = true } = options;
  const connection = {
    component: "state",
    type: "state.in-memory",
    current: () => driver,
    ready: async () => driver,
  };
  const telemetry = quietTelemetry();
  const common = { connection, telemetry, appId };
  const outbox = new Outbox({ ...common, target, instanceId, maxEventBytes: 1000, publish });
  if (start) outbox.start();
  onTestFinished(() => outbox.close(AbortSignal.abort()));
  const settings: StateSettings = stateSettings.parse({ keyPrefix });
  return { store: new StateStore({ ...common, settings, outbox }), outbox };
}

/** A write of a text. */
export const set = (key: string, text: string): WriteInput => ({
  kind: "set",
  key,
  value: bytesOf(text),
  contentType: "text/plain",
  metadata: {},
  timeToLiveMs: undefined,
  precondition: undefined,
});
/** The same as drivers take it. */
export const stored = (key: string): Write => {
  const { timeToLiveMs: _, ...write } = set(key, "x") as SetInput;
  return { ...write, expiresAtMs: undefined };
};
/** A write of a text where there is nothing yet. */
export const absent = (key: string, text: string): WriteInput => ({
  ...set(key, text),
  precondition: { kind: "absent" },
});
export const remove = (key: string): WriteInput => ({ kind: "delete", key, precondition: undefined });

/** How many notes are left. */
export async function notesIn(driver: StateDriver, appId = "app"): Promise<number> {
  const range = { prefix: notesPrefix(appId), after: undefined, limit: 1000, keysOnly: true };
  return (await driver.list!(range, call())).items.length;
}
