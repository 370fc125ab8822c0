/** Directories and drivers for the tests of the embedded store. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import type { OpenContext } from "../../src/component.ts";
import { sqliteComponents } from "../../src/components/sqlite/components.ts";
import { Databases } from "../../src/components/sqlite/databases.ts";
import { SqlitePubSub } from "../../src/components/sqlite/pubsub.ts";
import { openContext } from "./open-context.ts";

/** A data directory of its own. */
export class Directory {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<Directory> {
    return new Directory(await mkdtemp(join(tmpdir(), "outrider-sqlite-")));
  }

  /** Opens a state store as another sidecar does: with a thread of its own. */
  state(fields: Record<string, string> = {}, given: Partial<OpenContext> = {}): Promise<StateDriver> {
    const { state } = sqliteComponents();
    return state.configure(state.schema.parse(fields))({ ...this.context("state"), ...given });
  }

  /** Opens a broker as another sidecar does. */
  pubsub(fields: Record<string, string> = {}): Promise<PubSubDriver> {
    const { pubsub } = sqliteComponents();
    return pubsub.configure(pubsub.schema.parse(fields))(this.context("pubsub"));
  }

  /** A broker that finds out about others by asking, as where files cannot be watched. */
  async pubsubWithoutWatch(): Promise<PubSubDriver> {
    const path = join(this.path, "outrider.db");
    const context = this.context("pubsub");
    const settings = { path, instanceId: context.instanceId, lockLimitMs: 10_000, watchFiles: false };
    const ask = { ageMs: 3_600_000, bytes: 1024 ** 3 };
    const attachment = { kind: "attachPubSub", ask, limitMs: 10_000 } as const;
    return new SqlitePubSub(await new Databases().lease(settings, attachment, context), 10_000);
  }

  context(name: string): OpenContext {
    const signal = AbortSignal.timeout(20_000);
    return openContext({ name, dataDirectory: this.path, signal });
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}
