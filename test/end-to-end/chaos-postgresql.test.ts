import { startPostgresql } from "../servers/postgresql.ts";
import { chaosTest } from "./chaos.ts";

chaosTest({
  needs: ["postgresql"],
  type: "pubsub.postgresql",
  start: startPostgresql,
  metadata: (port) => ({
    connectionString: `postgresql://postgres@127.0.0.1:${port}/postgres?sslmode=disable`,
  }),
  state: {
    type: "state.postgresql",
    version: "v2",
    metadata: (port) => ({
      connectionString: `postgresql://postgres@127.0.0.1:${port}/postgres?sslmode=disable`,
    }),
  },
});
