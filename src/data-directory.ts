/** Where embedded stores keep their files: one directory for all sidecars of a project. */
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

/** The name of the directory, in the root of a project. */
const directoryName = ".outrider";

/**
 * The data directory of a sidecar or command that is started in
 * `workingDirectory`: an absolute path, which may not exist yet.
 *
 * It is the one that was asked for, else `.outrider` in the project: the
 * nearest directory, from here upwards, that has `.outrider` or `.git` in it,
 * or else the working directory. So everything started anywhere in one project
 * shares one store, and two projects never do.
 */
export function findDataDirectory(workingDirectory: string, asked: string | undefined): string {
  if (asked) return resolve(workingDirectory, asked);
  let directory = resolve(workingDirectory);
  while (!existsSync(join(directory, directoryName)) && !existsSync(join(directory, ".git"))) {
    const parent = dirname(directory);
    if (parent === directory) return resolve(workingDirectory, directoryName);
    directory = parent;
  }
  return join(directory, directoryName);
}

/** Makes the directory if need be, with a `.gitignore`, for what is in it belongs in no repository. */
export async function makeDataDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true });
  await writeFile(join(path, ".gitignore"), "*\n", { flag: "wx" }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
}
