/** PgBouncer: a pooler before PostgreSQL, in transaction mode. */
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { oncePerRun } from "./once.ts";
import { freePort } from "./ports.ts";
import { answers, notRoot, sharedPostgresql } from "./postgresql.ts";
import { serverFolder } from "./run-folder.ts";
import { type Server, ServerProcess } from "./server.ts";
import { program } from "./tools.ts";

/** Where a pooler is. */
export interface PoolerAddress {
  readonly host: string;
  readonly port: number;
  /** Of the database postgres; whoever comes becomes its super user. */
  readonly url: string;
}

/** The pooler before the server that the tests of a run share. */
export function sharedPooler(): Promise<PoolerAddress> {
  return oncePerRun("pgbouncer", async () => {
    const { host, port, url } = await startPooler((await sharedPostgresql()).port);
    return { host, port, url };
  });
}

/** Starts one before the PostgreSQL on a port. */
async function startPooler(postgresqlPort: number): Promise<Server & PoolerAddress> {
  const port = await freePort();
  const folder = serverFolder("pgbouncer");
  const path = join(folder, "pgbouncer.ini");
  const lines = [
    "[databases]",
    `* = host=127.0.0.1 port=${postgresqlPort} user=postgres`,
    "[pgbouncer]",
    "listen_addr = 127.0.0.1",
    `listen_port = ${port}`,
    "unix_socket_dir =",
    "auth_type = any",
    "pool_mode = transaction",
    // Few, so that a client that keeps one for itself is found out.
    "default_pool_size = 4",
    "max_client_conn = 200",
    "ignore_startup_parameters = extra_float_digits",
    // Or it would keep a server that was restarted waiting for this long.
    "server_login_retry = 1",
  ];
  await writeFile(path, `${lines.join("\n")}\n`);
  await chmod(path, 0o644);
  const url = `postgresql://postgres@127.0.0.1:${port}/postgres`;
  const server = await ServerProcess.start({
    name: "PgBouncer",
    program: program("pgbouncer"),
    words: [path],
    port,
    folder,
    user: await notRoot(),
    ready: () => answers(url),
  });
  return Object.assign(server, { url });
}
