/** A server as a process of its own. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";

/** The root of the project. */
export const root = join(import.meta.dirname, "..", "..");

/** A Node program that was started. */
export type NodeChild = ChildProcessByStdio<null, Readable, Readable>;

/** A process that serves gRPC. */
export interface Server {
  readonly pid: number;
  readonly grpcPort: number;
  /** Asks it to end, and waits until it has. */
  stop(): Promise<void>;
}

/** Starts a Node program. It ends with this process at the latest. */
export function startNode(args: readonly string[], nodeArgs: readonly string[] = []): NodeChild {
  // It is measured as a user has it: without the settings of the npm script around it.
  const { PATH, HOME } = process.env;
  const child = spawn(process.execPath, [...nodeArgs, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH, HOME },
    cwd: root,
  });
  const kill = () => void child.kill("SIGKILL");
  process.once("exit", kill);
  child.once("exit", () => process.off("exit", kill));
  return child;
}

/** Ends a process with SIGTERM. */
export async function stop(child: NodeChild): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGTERM");
  const giveUp = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await exit;
  clearTimeout(giveUp);
}

/** Ports that nobody listens on now. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port was given");
    return address.port;
  });
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}
