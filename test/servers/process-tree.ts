/** A process and what it started, by what the kernel says. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

/** The ids of a process and of all that descends from it, itself first. */
export function processTree(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const [child, parent] of parents()) children.set(parent, [...(children.get(parent) ?? []), child]);
  const tree = [pid];
  for (const each of tree) tree.push(...(children.get(each) ?? []));
  return tree;
}

/** Sends a signal to each that is still there. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended.
    }
  }
}

/**
 * Whether a process runs; one that has ended and waits to be collected does not. It has ended with the last of its
 * threads: until then its ports are not free, although the first may be gone.
 */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return !existsSync("/proc/self/stat") || !threadsAre(/[ZX]/, pid);
}

/** Whether every thread of a process has stopped; true as well when it has ended, or the kernel does not say. */
export function isStopped(pid: number): boolean {
  return threadsAre(/[TtZX]/, pid);
}

/** Whether each thread of a process is in one of the states, or gone. */
function threadsAre(states: RegExp, pid: number): boolean {
  try {
    const threads = readdirSync(`/proc/${pid}/task`);
    return threads.every((thread) => states.test(stateOf(`${pid}/task/${thread}`)?.state ?? "X"));
  } catch {
    return true;
  }
}

function parents(): (readonly [child: number, parent: number])[] {
  if (existsSync("/proc/self/stat")) {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .flatMap((name) => {
        const parent = stateOf(Number(name))?.parent;
        return parent === undefined ? [] : [[Number(name), parent] as const];
      });
  }
  return execFileSync("ps", ["-axo", "pid=,ppid="], { encoding: "utf8" })
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number) as [number, number]);
}

function stateOf(pid: number | string): { readonly state: string; readonly parent: number } | undefined {
  try {
    // After the name, which is in brackets and may hold anything.
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return { state: state!, parent: Number(parent) };
  } catch {
    return undefined;
  }
}
