/** PostgreSQL. */
import { execFile } from "node:child_process";
import { chownSync } from "node:fs";
import { chmod, chown, copyFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { certificates } from "./certificates.ts";
import { oncePerRun } from "./once.ts";
import { freePort } from "./ports.ts";
import { serverFolder } from "./run-folder.ts";
import { type Server, ServerProcess } from "./server.ts";
import { program } from "./tools.ts";

const run = promisify(execFile);

/** Where a server is. TLS is offered on the same port, with the certificates of the run. */
export interface PostgresqlAddress {
  readonly host: string;
  readonly port: number;
  /** For the super user postgres, who needs no password. The database has the same name. */
  readonly url: string;
  /**
   * For the user outrider with password secret (SCRAM), who owns the database outrider. The user alice is
   * known by her certificate only, over TLS.
   */
  readonly passwordUrl: string;
}

/** A server of a test's own. */
export type PostgresqlServer = Server & PostgresqlAddress;

/** Settings as in postgresql.conf, such as { max_connections: "20" }. */
export type PostgresqlOptions = Readonly<Record<string, string>>;

/** The server that the tests of a run share: a schema, or tables with names, of one's own each. It does not wait for the disk. */
export function sharedPostgresql(): Promise<PostgresqlAddress> {
  return oncePerRun("postgresql", async () => {
    const { host, port, url, passwordUrl } = await startPostgresql({ fsync: "off" });
    return { host, port, url, passwordUrl };
  });
}

/** Starts one; a second. */
export async function startPostgresql(options: PostgresqlOptions = {}): Promise<PostgresqlServer> {
  const [port, tls, user] = await Promise.all([freePort(), certificates(), notRoot()]);
  const folder = serverFolder("pg");
  if (user) chownSync(folder, user.uid, user.gid);
  const data = join(folder, "db");
  const initial = [
    "-D",
    data,
    "-U",
    "postgres",
    "-A",
    "trust",
    "-N",
    "--no-instructions",
    "--no-locale",
    "-E",
    "UTF8",
  ];
  await run(program("initdb"), initial, { cwd: folder, ...user });
  await writeFile(join(data, "pg_hba.conf"), access);
  for (const [file, source] of [
    ["server.key", tls.server.key],
    ["server.crt", tls.server.cert],
    ["ca.crt", tls.ca],
  ] as const) {
    await copyFile(source, join(data, file));
    await chmod(join(data, file), 0o600);
    if (user) await chown(join(data, file), user.uid, user.gid);
  }
  const settings = {
    port: String(port),
    listen_addresses: "127.0.0.1",
    unix_socket_directories: folder,
    shared_buffers: "32MB",
    wal_level: "logical",
    ssl: "on",
    ssl_cert_file: "server.crt",
    ssl_key_file: "server.key",
    ssl_ca_file: "ca.crt",
    ...options,
  };
  const url = `postgresql://postgres@127.0.0.1:${port}/postgres`;
  const server = await ServerProcess.start({
    name: "PostgreSQL",
    program: program("postgres"),
    words: ["-D", data, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
    port,
    folder,
    user,
    // SIGTERM would wait until the last client has gone.
    stopSignal: "SIGINT",
    ready: () => answers(url),
  });
  await query(
    url,
    "CREATE ROLE outrider LOGIN PASSWORD 'secret'",
    "CREATE ROLE alice LOGIN",
    "CREATE DATABASE outrider OWNER outrider",
  );
  return Object.assign(server, {
    url,
    passwordUrl: `postgresql://outrider:secret@127.0.0.1:${port}/outrider`,
  });
}

const access = `
local   all all                    trust
host    all postgres 127.0.0.1/32  trust
hostssl all alice    127.0.0.1/32  cert
host    all all      127.0.0.1/32  scram-sha-256
`;

/** Who runs a server that refuses to be root. Undefined if this process is not root. */
export async function notRoot(): Promise<{ readonly uid: number; readonly gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const users = (await readFile("/etc/passwd", "utf8")).split("\n").map((line) => line.split(":"));
  const found = users.find(([name]) => name === "postgres") ?? users.find(([name]) => name === "nobody");
  if (!found) throw new Error("PostgreSQL refuses to be root, and there is no user postgres or nobody");
  return { uid: Number(found[2]), gid: Number(found[3]) };
}

/** Whether a server, or what stands before it, answers a query. */
export async function answers(url: string): Promise<boolean> {
  await query(url, "SELECT 1");
  return true;
}

async function query(url: string, ...statements: readonly string[]): Promise<void> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2000 });
  client.on("error", () => {});
  try {
    await client.connect();
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}
