/** Schemas and drivers for the tests of the components on PostgreSQL. */
import { randomUUID } from "node:crypto";
import { Client } from "pg";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import { postgresPubSub, postgresState } from "../../src/components/postgresql/components.ts";
import { type PostgresqlAddress, sharedPostgresql } from "../servers/postgresql.ts";
import { openContext } from "./open-context.ts";

/** A schema of its own on a server. */
export class Schema {
  readonly name = `t_${randomUUID().slice(0, 8)}`;
  readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  /** On the server that the tests of a run share. */
  static async make(): Promise<Schema> {
    return new Schema(((await sharedPostgresql()) as PostgresqlAddress).url);
  }

  /** Opens a state store as another sidecar does. */
  state(version: "v1" | "v2", fields: Record<string, string> = {}): Promise<StateDriver> {
    const table = version === "v1" ? { tableName: `${this.name}.state` } : { tablePrefix: `${this.name}.` };
    const metadataTableName = `${this.name}.dapr_metadata`;
    const settings = { connectionString: this.url, ...table, metadataTableName, ...fields };
    const open = postgresState.configure(postgresState.schema.parse(settings));
    return open(openContext({ name: "state", version, signal: AbortSignal.timeout(20_000) }));
  }

  /** Opens a broker as another sidecar does. */
  pubsub(fields: Record<string, string> = {}): Promise<PubSubDriver> {
    const settings = { connectionString: this.url, schema: this.name, ...fields };
    const open = postgresPubSub.configure(postgresPubSub.schema.parse(settings));
    return open(openContext({ name: "pubsub", signal: AbortSignal.timeout(20_000) }));
  }

  /** Runs SQL, as psql does. */
  async sql<Row extends Record<string, unknown>>(text: string, ...values: unknown[]): Promise<Row[]> {
    const client = new Client({ connectionString: this.url });
    client.on("error", () => {});
    await client.connect();
    try {
      await client.query(`SET search_path = ${this.name}, public`);
      return (await client.query<Row>(text, values)).rows;
    } finally {
      await client.end();
    }
  }
}
