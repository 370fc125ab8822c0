/** Load on a server, and what it cost. */
import { setTimeout as delay } from "node:timers/promises";
import { cpuMicros } from "./process-figures.ts";

/** What a time of load has shown. */
export interface Slice {
  /** Calls or events that were finished. */
  readonly count: number;
  readonly seconds: number;
  /** Processor time of the server for each of them, in microseconds. */
  readonly cpuMicros: number;
  /** The same of this process, which makes the load. */
  readonly clientMicros: number;
  /** From the call to its answer, in microseconds, one for each. */
  readonly latencies: readonly number[];
}

/** One call. */
export type Caller = () => Promise<unknown>;

/** Keeps `inFlight` calls under way for a time. */
export async function closedLoop(pid: number, ms: number, inFlight: number, call: Caller): Promise<Slice> {
  const latencies: number[] = [];
  return sliceOf(pid, latencies, async () => {
    const end = performance.now() + ms;
    const caller = async () => {
      for (let now = performance.now(); now < end; ) {
        await call();
        const after = performance.now();
        latencies.push((after - now) * 1000);
        now = after;
      }
    };
    await Promise.all(Array.from({ length: inFlight }, caller));
  });
}

/**
 * Calls at a fixed rate, whether earlier calls have been answered or not. Latencies are counted from the moment
 * at which a call is made: the client's own timer, which is good to a millisecond, is not the server's fault.
 */
export async function openLoop(pid: number, ms: number, perSecond: number, call: Caller): Promise<Slice> {
  const latencies: number[] = [];
  return sliceOf(pid, latencies, async () => {
    const begin = performance.now();
    const calls: Promise<void>[] = [];
    const one = async () => {
      const startedAt = performance.now();
      await call();
      latencies.push((performance.now() - startedAt) * 1000);
    };
    for (;;) {
      const elapsed = performance.now() - begin;
      if (elapsed >= ms) break;
      while (calls.length < (elapsed * perSecond) / 1000) calls.push(one());
      await delay(1);
    }
    await Promise.all(calls);
  });
}

async function sliceOf(pid: number, latencies: number[], work: () => Promise<void>): Promise<Slice> {
  const cpuBefore = cpuMicros(pid);
  const ownBefore = process.cpuUsage();
  const startedAt = performance.now();
  await work();
  const seconds = (performance.now() - startedAt) / 1000;
  const count = latencies.length;
  const own = process.cpuUsage(ownBefore);
  return {
    count,
    seconds,
    cpuMicros: (cpuMicros(pid) - cpuBefore) / count,
    clientMicros: (own.user + own.system) / count,
    latencies,
  };
}
