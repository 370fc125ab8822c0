/** Vitest's: around a whole run of tests. */
import { openRunFolder, type RunFolder } from "./run-folder.ts";

/** Makes the folder of the run. What it returns ends every server that was started. */
export function setup(): () => Promise<void> {
  const run: RunFolder = openRunFolder();
  return async () => {
    await run[Symbol.asyncDispose]();
  };
}
