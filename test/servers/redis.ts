/** Redis, or Valkey, as one server. */
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { certificates } from "./certificates.ts";
import { oncePerRun } from "./once.ts";
import { freePort, freePorts } from "./ports.ts";
import { serverFolder } from "./run-folder.ts";
import { type Server, ServerProcess } from "./server.ts";
import { program } from "./tools.ts";

/** Where a server is: no password, no TLS. */
export interface RedisAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * Where a server is that wants to know who comes. The default user's password is "secret". The user alice, with
 * password "secret" too, may touch only keys that begin with "app:", and run no dangerous command.
 */
export interface SecureRedisAddress extends RedisAddress {
  /** For TLS with the certificates of the run; a client's own is looked at, not asked for. */
  readonly tlsPort: number;
}

/** Settings as in redis.conf, such as { "maxmemory": "10mb" }. */
export type RedisOptions = Readonly<Record<string, string>>;

/** The server that the tests of a run share: keys must have fresh names, and FLUSHALL is for servers of one's own. */
export function sharedRedis(): Promise<RedisAddress> {
  return oncePerRun("redis", async () => addressOf(await startRedis()));
}

/** As `sharedRedis`, with Valkey's server. */
export function sharedValkey(): Promise<RedisAddress> {
  return oncePerRun("valkey", async () =>
    addressOf(await startRedisOn(await freePort(), {}, { server: "valkey-server" })),
  );
}

/** The one with users and TLS. */
export function sharedSecureRedis(): Promise<SecureRedisAddress> {
  return oncePerRun("redis-secure", async () => {
    const { host, port, tlsPort } = await startSecureRedis();
    return { host, port, tlsPort };
  });
}

/** Starts one. What it has acknowledged is on its disk. */
export async function startRedis(options: RedisOptions = {}): Promise<Server> {
  const port = options["port"] === undefined ? await freePort() : Number(options["port"]);
  return await startRedisOn(port, options);
}

/** What there may be beside the options of one. */
export interface RedisExtras {
  /** Lines of its configuration that may come more than once. */
  readonly lines?: string;
  /** By default Redis. */
  readonly server?: RedisServerName;
}

/** Programs that serve the same protocol. */
export type RedisServerName = "redis-server" | "valkey-server";

/** As `startRedis`, on a port that is chosen already. */
export async function startRedisOn(
  port: number,
  options: RedisOptions,
  { lines = "", server = "redis-server" }: RedisExtras = {},
): Promise<Server> {
  const folder = serverFolder("redis");
  const all = {
    bind: "127.0.0.1",
    dir: folder,
    save: '""',
    appendonly: "yes",
    appendfsync: "always",
    ...options,
    port: String(port),
  };
  const path = join(folder, "redis.conf");
  const text = Object.entries(all).map(([name, value]) => `${name} ${value}\n`);
  await writeFile(path, text.join("") + lines);
  return await ServerProcess.start({
    name: server === "redis-server" ? "Redis" : "Valkey",
    program: program(server),
    words: [path],
    port,
    folder,
    // One that wants a password serves too; one that loads its data says so.
    ready: async () => /^(\+PONG|-NOAUTH)/.test(await answerTo(port, "PING\r\n")),
  });
}

/** Starts one with users and TLS. */
export async function startSecureRedis(
  options: RedisOptions = {},
): Promise<Server & { readonly tlsPort: number }> {
  const [[port, tlsPort], tls] = await Promise.all([freePorts(2), certificates()]);
  const secured = {
    "tls-port": String(tlsPort),
    "tls-cert-file": tls.server.cert,
    "tls-key-file": tls.server.key,
    "tls-ca-cert-file": tls.ca,
    "tls-auth-clients": "optional",
    requirepass: "secret",
    ...options,
  };
  const server = await startRedisOn(port!, secured, {
    lines: "user alice on >secret ~app:* &* +@all -@dangerous +info\n",
  });
  return Object.assign(server, { tlsPort: tlsPort! });
}

/** The first line, or what there is of it, that a server answers. */
export function answerTo(port: number, words: string): Promise<string> {
  return new Promise((done, fail) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(words));
    socket.setTimeout(1000, () => socket.destroy(new Error("no answer within a second")));
    socket.setEncoding("utf8").once("data", (text: string) => {
      socket.destroy();
      done(text);
    });
    socket.once("error", fail).once("close", () => fail(new Error("closed without an answer")));
  });
}

function addressOf({ host, port }: RedisAddress): RedisAddress {
  return { host, port };
}
