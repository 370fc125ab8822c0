/** What the programs of a crash test have in common: how they are told what to do, and how they go on after a fault. */

/** What a program is told, as JSON in its only argument. */
export interface Task {
  /** Which one of its kind it is, from 0. */
  readonly index: number;
  /** Counts the lives of this one, from 1. */
  readonly life: number;
  readonly seed: number;
  /** Where everybody writes down what happened, and finds the sidecars. */
  readonly directory: string;
  /** The numbers of those it may use. */
  readonly sidecars: readonly number[];
  readonly topic: string;
  readonly groups: readonly { readonly name: string; readonly ordered: boolean }[];
}

/** How long a program waits until it tries the next sidecar, in milliseconds. */
const retryMs = 50;
/** A sidecar that is silent for so long is left for another, in milliseconds: on a machine with much else to do, one is silent for seconds. */
export const silentMs = 6000;

/** The task of this program. */
export function readTask(): Task {
  return JSON.parse(process.argv[2]!) as Task;
}

/** Aborts when whoever started this program closes its standard input: it is to come to an end. */
export function askedToEnd(): AbortSignal {
  const end = new AbortController();
  process.stdin.resume().on("end", () => end.abort());
  return end.signal;
}

/** Does something with one sidecar after another, until it is to come to an end. A fault means: the next one. */
export async function withSidecars(
  task: Task,
  end: AbortSignal,
  work: (sidecar: number) => Promise<void>,
): Promise<void> {
  for (let turn = task.index + task.life; !end.aborted; turn++) {
    try {
      await work(task.sidecars[turn % task.sidecars.length]!);
    } catch (error) {
      process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    }
    await pause(retryMs);
  }
}

/** Lets time pass, as applications do. */
export function pause(ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(() => resolve(), ms);
  return promise;
}
