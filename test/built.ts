/** What `npm run build` makes, made once for a whole test run: what users start. */
import { execFile } from "node:child_process";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { oncePerRun } from "./servers/once.ts";
import { serverFolder } from "./servers/run-folder.ts";

const root = resolve(import.meta.dirname, "..");

/** The folder in the place of `dist/`. Rejects when it cannot be built. */
export function built(): Promise<string> {
  return oncePerRun("build", async () => {
    const folder = join(serverFolder("build"), "dist");
    await promisify(execFile)(process.execPath, ["build.ts", folder], { cwd: root });
    return folder;
  });
}
