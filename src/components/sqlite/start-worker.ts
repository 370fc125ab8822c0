/** Starts the store's thread from a file beside this one. In a bundle of one file, build.ts has the code in its place. */
import { Worker, type WorkerOptions } from "node:worker_threads";

/** The thread; it says when it can be asked. */
export function startWorker(options: WorkerOptions): Worker {
  // Run from the sources, and bundled: see build.ts.
  const file = import.meta.url.endsWith(".ts") ? "./worker.ts" : "./sqlite-worker.js";
  return new Worker(new URL(file, import.meta.url), options);
}
