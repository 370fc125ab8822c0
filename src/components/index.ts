/** Every component of this build. To add one: a folder beside this file, a line here, a call of the suite. */
import type { Component } from "../component.ts";
import { jetStreamPubSub, jetStreamState } from "./jetstream/components.ts";
import { kafkaPubSub } from "./kafka/components.ts";
import { memoryPubSub } from "./memory/pubsub.ts";
import { memoryState } from "./memory/state.ts";
import { postgresPubSub, postgresState } from "./postgresql/components.ts";
import { redisPubSub, redisState } from "./redis/components.ts";
import { sqliteComponents } from "./sqlite/components.ts";

/**
 * The components, for one sidecar: those of one technology may share what they
 * open. Libraries of vendors are loaded when a component is opened, not here.
 */
export function makeComponents(): readonly Component[] {
  const sqlite = sqliteComponents();
  return [
    memoryState,
    memoryPubSub,
    sqlite.state,
    sqlite.pubsub,
    redisState,
    redisPubSub,
    postgresState,
    postgresPubSub,
    kafkaPubSub,
    jetStreamPubSub,
    jetStreamState,
  ];
}
