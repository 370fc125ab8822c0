/** What a sidecar does when it has started and has nothing to do: it keeps its compiled code, and gives memory back. */
import { flushCompileCache } from "node:module";
import { performance } from "node:perf_hooks";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** When the compiled code is kept for the next start, in milliseconds: it takes a moment, and serving comes first. */
const keepCodeAfterMs = 3000;
/** How long there must have been nothing to do, in milliseconds. */
const idleMs = 5000;
/** A part of the time that is nothing, between 0 and 1. */
const idleShare = 0.01;
/** What the young generation may have, in bytes. */
const youngBytes = 4 * 1024 * 1024;

/**
 * To be called once, when the sidecar serves; it keeps no process alive. V8 leaves its young generation, which is empty
 * most of the time, as large as the busiest moment has made it: up to 32 MB, for as long as the process lives. A full
 * collection makes it small again, and V8 returns the pages within half a minute. It stops everything for 15 ms, or 70
 * with a thousand streams, so it is for sidecars that are idle, and once for each time that they were not.
 */
export function restWhenIdle(): void {
  setTimeout(flushCompileCache, keepCodeAfterMs).unref();
  let last = performance.eventLoopUtilization();
  let mostBytes = youngBytes;
  setInterval(() => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, last);
    last = now;
    if (utilization >= idleShare || youngGenerationBytes() <= mostBytes) return;
    collect();
    // Whoever has V8 keep it larger does not have it collected again and again.
    mostBytes = Math.max(youngBytes, 2 * youngGenerationBytes());
  }, idleMs).unref();
}

function youngGenerationBytes(): number {
  const spaces = getHeapSpaceStatistics();
  return spaces.find(({ space_name: name }) => name === "new_space")?.physical_space_size ?? 0;
}

/** Collects everything. Node has the function for those only who start it with `--expose-gc`. */
function collect(): void {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as (options: {
    readonly type: "major";
    readonly execution: "sync";
  }) => void;
  setFlagsFromString("--no-expose-gc");
  gc({ type: "major", execution: "sync" });
}
