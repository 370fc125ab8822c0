/** Every component of this build. To add one: a folder beside this file, a line here, a call of the suite. */
import type { Component, LateComponent } from "../component.ts";
import { type SqliteOpeners, sqliteOpeners } from "./sqlite/openers.ts";

/** The components of a sidecar. */
export interface Components {
  readonly all: readonly (Component | LateComponent)[];
  /** What there is where nobody declares anything. */
  readonly embedded: SqliteOpeners;
}

/**
 * The components, for one sidecar: those of one technology may share what they
 * open. Libraries of vendors are loaded when a component is opened.
 */
export function makeComponents(): Components {
  const embedded = sqliteOpeners();
  const sqlite = async () => (await import("./sqlite/components.ts")).sqliteComponents(embedded);
  const redis = () => import("./redis/components.ts");
  const postgres = () => import("./postgresql/components.ts");
  const kafka = () => import("./kafka/components.ts");
  const jetStream = () => import("./jetstream/components.ts");
  const all = [
    { type: "state.in-memory", load: async () => (await import("./memory/state.ts")).memoryState },
    { type: "pubsub.in-memory", load: async () => (await import("./memory/pubsub.ts")).memoryPubSub },
    { type: "state.sqlite", load: async () => (await sqlite()).state },
    { type: "pubsub.sqlite", load: async () => (await sqlite()).pubsub },
    { type: "state.redis", load: async () => (await redis()).redisState },
    { type: "pubsub.redis", load: async () => (await redis()).redisPubSub },
    { type: "state.postgresql", load: async () => (await postgres()).postgresState },
    { type: "pubsub.postgresql", load: async () => (await postgres()).postgresPubSub },
    { type: "pubsub.kafka", load: async () => (await kafka()).kafkaPubSub },
    { type: "pubsub.jetstream", load: async () => (await jetStream()).jetStreamPubSub },
    { type: "state.jetstream", load: async () => (await jetStream()).jetStreamState },
  ];
  return { all, embedded };
}
