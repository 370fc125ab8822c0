/** Redis with Sentinel: a primary, a replica, and one sentinel that makes the replica the primary. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { oncePerRun } from "./once.ts";
import { freePorts } from "./ports.ts";
import { answerTo, type RedisAddress, startRedisOn } from "./redis.ts";
import { serverFolder } from "./run-folder.ts";
import { type Server, ServerProcess } from "./server.ts";
import { program } from "./tools.ts";
import { until } from "./until.ts";

/** Where they are. The name of the primary is "main". */
export interface RedisSentinelAddress {
  readonly sentinel: RedisAddress;
  readonly primary: RedisAddress;
  readonly replica: RedisAddress;
  readonly primaryName: string;
}

/** A set of a test's own. When the primary is killed, the replica takes its place after about two seconds. */
export interface RedisSentinel extends RedisSentinelAddress, AsyncDisposable {
  readonly sentinel: Server;
  readonly primary: Server;
  readonly replica: Server;
}

/** The set that the tests of a run share. Its primary stays what it is, however slow the machine. */
export function sharedRedisSentinel(): Promise<RedisSentinelAddress> {
  return oncePerRun("redis-sentinel", async () => {
    const { sentinel, primary, replica, primaryName } = await startRedisSentinel({ downAfterMs: 60_000 });
    const of = ({ host, port }: RedisAddress) => ({ host, port });
    return { sentinel: of(sentinel), primary: of(primary), replica: of(replica), primaryName };
  });
}

/** Starts them; two seconds. A primary that is silent for `downAfterMs` milliseconds is replaced. */
export async function startRedisSentinel({ downAfterMs = 1000 } = {}): Promise<RedisSentinel> {
  const [one, other, port] = (await freePorts(3)) as [number, number, number];
  const primary = await startRedisOn(one, {});
  const replica = await startRedisOn(other, { replicaof: `127.0.0.1 ${one}` });
  const folder = serverFolder("sentinel");
  const path = join(folder, "sentinel.conf");
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${folder}`,
    `sentinel monitor main 127.0.0.1 ${one} 1`,
    `sentinel down-after-milliseconds main ${downAfterMs}`,
    "sentinel failover-timeout main 3000",
  ];
  await writeFile(path, `${lines.join("\n")}\n`);
  const sentinel = await ServerProcess.start({
    name: "Redis Sentinel",
    program: program("redis-server"),
    words: [path, "--sentinel"],
    port,
    folder,
    ready: async () => (await answerTo(port, "PING\r\n")).startsWith("+PONG"),
  });
  // Before it knows the replica it could not give the name to anybody.
  const knows = async () => (await answerTo(port, "SENTINEL REPLICAS main\r\n")).includes(String(other));
  const follows = async () =>
    (await answerTo(other, "INFO replication\r\n")).includes("master_link_status:up");
  await until(knows, "the sentinel knows the replica", 20_000);
  await until(follows, "the replica follows", 20_000);
  return {
    sentinel,
    primary,
    replica,
    primaryName: "main",
    async [Symbol.asyncDispose]() {
      await Promise.all([sentinel, primary, replica].map((server) => server.kill()));
    },
  };
}
