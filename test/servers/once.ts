/** What is started once for a whole test run, by whichever file asks first. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runFolder } from "./run-folder.ts";
import { until } from "./until.ts";

/** How long others wait for the one that starts it, in milliseconds. */
const startWithinMs = 60_000;

type Outcome<T> = { readonly value: T } | { readonly error: string };

/**
 * What `start` resolves to, as JSON. Of all the processes of a run that ask for the same name, one calls `start`.
 * Rejects in all of them if it rejects.
 */
export async function oncePerRun<T>(name: string, start: () => Promise<T>): Promise<T> {
  const lock = join(runFolder(), `${name}.once`);
  const path = join(lock, "outcome.json");
  const outcome = (await isFirst(lock)) ? await settle(path, start) : await read<T>(name, path);
  if ("error" in outcome) throw new Error(`${name} did not start: ${outcome.error}`);
  return outcome.value;
}

async function isFirst(lock: string): Promise<boolean> {
  try {
    mkdirSync(lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

async function settle<T>(path: string, start: () => Promise<T>): Promise<Outcome<T>> {
  const outcome = await start().then(
    (value): Outcome<T> => ({ value }),
    (error: unknown): Outcome<T> => ({ error: error instanceof Error ? error.message : String(error) }),
  );
  // Whole or not at all.
  writeFileSync(`${path}.part`, JSON.stringify(outcome));
  renameSync(`${path}.part`, path);
  return outcome;
}

async function read<T>(name: string, path: string): Promise<Outcome<T>> {
  const find = () => {
    try {
      return JSON.parse(readFileSync(path, "utf8")) as Outcome<T>;
    } catch {
      return undefined;
    }
  };
  return await until(find, `${name} is started by another test file`, startWithinMs);
}
