/** Redis Cluster: three primaries, with a replica each if asked for. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { oncePerRun } from "./once.ts";
import { freePort, freePorts } from "./ports.ts";
import { answerTo, type RedisAddress, type RedisServerName, startRedisOn } from "./redis.ts";
import type { Server } from "./server.ts";
import { program } from "./tools.ts";
import { until } from "./until.ts";

const run = promisify(execFile);

/** Where the nodes are. */
export interface RedisClusterAddress {
  readonly nodes: readonly RedisAddress[];
}

/** A cluster of a test's own. Nodes end with it. */
export interface RedisCluster extends RedisClusterAddress, AsyncDisposable {
  readonly nodes: readonly Server[];
}

/** The cluster that the tests of a run share: three nodes, no replicas. */
export function sharedRedisCluster(): Promise<RedisClusterAddress> {
  return oncePerRun("redis-cluster", async () => {
    const { nodes } = await startRedisCluster();
    return { nodes: nodes.map(({ host, port }) => ({ host, port })) };
  });
}

/** As `sharedRedisCluster`, with Valkey's servers. */
export function sharedValkeyCluster(): Promise<RedisClusterAddress> {
  return oncePerRun("valkey-cluster", async () => {
    const { nodes } = await startRedisCluster({ server: "valkey-server" });
    return { nodes: nodes.map(({ host, port }) => ({ host, port })) };
  });
}

/** How a cluster is made. */
export interface RedisClusterOptions {
  /** Of each primary; none by default. */
  readonly replicas?: 0 | 1;
  readonly server?: RedisServerName;
}

/** Starts one; two seconds. With replicas, a primary that is killed has a follower after about three. */
export async function startRedisCluster(options: RedisClusterOptions = {}): Promise<RedisCluster> {
  const { replicas = 0, server = "redis-server" } = options;
  const ports = await freePorts(3 * (1 + replicas));
  const nodes = await Promise.all(ports.map((port) => startNode(port, server)));
  const addresses = ports.map((port) => `127.0.0.1:${port}`);
  const create = [
    "--cluster",
    "create",
    ...addresses,
    "--cluster-replicas",
    String(replicas),
    "--cluster-yes",
  ];
  await run(program("redis-cli"), create);
  await Promise.all(ports.map((port) => until(() => isWell(port), "the Redis cluster is complete", 20_000)));
  return {
    nodes,
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map((node) => node.kill()));
    },
  };
}

async function startNode(port: number, server: RedisServerName): Promise<Server> {
  const options = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": "2000",
    "cluster-port": String(await freePort()),
  };
  return await startRedisOn(port, options, { server });
}

async function isWell(port: number): Promise<boolean> {
  if (!(await answerTo(port, "CLUSTER INFO\r\n")).includes("cluster_state:ok")) return false;
  // A replica that has never been in step does not take its primary's place.
  return !(await answerTo(port, "INFO replication\r\n")).includes("master_link_status:down");
}
