/** Every component of this build. To add one: a folder beside this file, a line here, a call of the suite. */
import type { Component, LateComponent } from "../component.ts";
import { sqliteComponents } from "./sqlite/components.ts";

/**
 * The components, for one sidecar: those of one technology may share what they
 * open. Libraries of vendors are loaded when a component is opened.
 */
export function makeComponents(): readonly (Component | LateComponent)[] {
  const sqlite = sqliteComponents();
  const redis = () => import("./redis/components.ts");
  const postgres = () => import("./postgresql/components.ts");
  const kafka = () => import("./kafka/components.ts");
  const jetStream = () => import("./jetstream/components.ts");
  return [
    { type: "state.in-memory", load: async () => (await import("./memory/state.ts")).memoryState },
    { type: "pubsub.in-memory", load: async () => (await import("./memory/pubsub.ts")).memoryPubSub },
    sqlite.state,
    sqlite.pubsub,
    { type: "state.redis", load: async () => (await redis()).redisState },
    { type: "pubsub.redis", load: async () => (await redis()).redisPubSub },
    { type: "state.postgresql", load: async () => (await postgres()).postgresState },
    { type: "pubsub.postgresql", load: async () => (await postgres()).postgresPubSub },
    { type: "pubsub.kafka", load: async () => (await kafka()).kafkaPubSub },
    { type: "pubsub.jetstream", load: async () => (await jetStream()).jetStreamPubSub },
    { type: "state.jetstream", load: async () => (await jetStream()).jetStreamState },
  ];
}
