/** Publishing to PostgreSQL and receiving from it: through the sidecar, and with pg alone. */
import { Pool } from "pg";
import { startPostgresql } from "../../test/servers/postgresql.ts";
import { payload } from "../messages.ts";
import type { Scenario } from "../scenario.ts";
import { batch, publishing, startSidecarOn, streaming } from "./beside-client.ts";

export const postgresql: Scenario = {
  name: "postgresql",
  about: "publish to PostgreSQL and receive from it, beside pg alone",
  async *run(effort) {
    // It waits for the disk, as it does by default.
    await using server = await startPostgresql();
    const fields = { connectionString: `${server.url}?sslmode=disable` };
    const sidecar = await startSidecarOn("pubsub.postgresql", fields);
    const pool = new Pool({ connectionString: server.url, max: 10 });
    await pool.query(
      "CREATE TABLE plain (id bigserial PRIMARY KEY, topic text NOT NULL, data bytea NOT NULL)",
    );
    try {
      const insert = { name: "insert", text: "INSERT INTO plain (topic, data) VALUES ($1, $2)" };
      const data = Buffer.from(payload());
      const plain = () => pool.query({ ...insert, values: ["bench", data] });
      yield* publishing(sidecar, "pg", plain, effort);
      yield* streaming(sidecar, "pg", (ms) => plainFlow(pool, ms), effort);
    } finally {
      await pool.end();
      await sidecar.stop();
    }
  },
};

/** Events a second by inserts of many rows, and by deletes that return as many as they lock: the usual queue in a table. */
async function plainFlow(pool: Pool, ms: number): Promise<number> {
  const data = Array.from({ length: batch }, () => Buffer.from(payload()));
  const insert = {
    name: "many",
    text: "INSERT INTO plain (topic, data) SELECT 'flow', d FROM unnest($1::bytea[]) AS d",
  };
  const take = {
    name: "take",
    text: `DELETE FROM plain WHERE id IN (SELECT id FROM plain WHERE topic = 'flow' ORDER BY id
      LIMIT ${batch} FOR UPDATE SKIP LOCKED) RETURNING data`,
  };
  const startedAt = performance.now();
  let count = 0;
  const publish = async () => {
    while (performance.now() - startedAt < ms) await pool.query({ ...insert, values: [data] });
  };
  const consume = async () => {
    while (performance.now() - startedAt < ms) count += (await pool.query(take)).rowCount ?? 0;
  };
  await Promise.all([publish(), consume()]);
  return count / ((performance.now() - startedAt) / 1000);
}
