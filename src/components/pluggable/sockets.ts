/** The folder of sockets: which components are there now, by name. */
import { readdir, stat } from "node:fs/promises";
import { join, parse } from "node:path";
import { pause } from "../../pause.ts";

/** Where sockets are when the environment does not say, as in Dapr. */
const defaultFolder = "/tmp/dapr-components-sockets";

/** Where to look for sockets. */
export interface SocketsFolder {
  readonly path: string;
  /** Whether somebody has named it, so that sockets are to be expected even before it is there. */
  readonly named: boolean;
}

/** The folder that an environment names. */
export function socketsFolder(environment: Readonly<Record<string, string | undefined>>): SocketsFolder {
  const path = environment["DAPR_COMPONENTS_SOCKETS_FOLDER"] ?? "";
  return path === "" ? { path: defaultFolder, named: false } : { path, named: true };
}

/**
 * The paths of sockets by their names, in small letters and without what stands after the last dot. Undefined: there
 * is no such folder.
 */
export async function socketsIn({ path }: SocketsFolder): Promise<ReadonlyMap<string, string> | undefined> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    const sockets = entries.filter((entry) => entry.isSocket()).map(({ name }) => name);
    // Of two that differ in their extension only, the first by name.
    return new Map(
      sockets
        .toSorted()
        .reverse()
        .map((name) => [parse(name).name.toLowerCase(), join(path, name)]),
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** How often it is looked whether a socket has come, in milliseconds. */
const lookMs = 500;

/** Resolves when there is a socket of that name that was not there at the call, or the signal aborts. Never rejects. */
export async function socketComes(folder: SocketsFolder, socket: string, signal: AbortSignal): Promise<void> {
  const before = await identityOf(folder, socket);
  while (!signal.aborted) {
    await pause(lookMs, signal);
    const now = await identityOf(folder, socket);
    if (now !== "" && now !== before) return;
  }
}

/** Another for each socket that a process makes; "" for none. */
async function identityOf(folder: SocketsFolder, socket: string): Promise<string> {
  try {
    const path = (await socketsIn(folder))?.get(socket.toLowerCase());
    if (path === undefined) return "";
    const { ino, birthtimeMs } = await stat(path);
    return `${ino} ${birthtimeMs}`;
  } catch {
    return "";
  }
}
