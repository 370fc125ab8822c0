/** Which sidecars run on a data directory, so that commands find them without being told a port. */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";

/** A sidecar that runs, as its file in `sidecars/` of the data directory tells it. */
export interface RunningSidecar {
  readonly instanceId: string;
  readonly appId: string;
  /** Of the sidecar, on `host`. */
  readonly pid: number;
  readonly host: string;
  /** Milliseconds since 1970. */
  readonly startedAtMs: number;
  /** Where commands reach the gRPC port. */
  readonly grpcAddress: string;
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Undefined when metrics are off. */
  readonly metricsPort?: number;
}

const folderName = "sidecars";

/** Tells others of a sidecar. Returns what takes that back; it never throws. */
export async function announceSidecar(
  dataDirectory: string,
  sidecar: Omit<RunningSidecar, "host">,
): Promise<() => Promise<void>> {
  const folder = join(dataDirectory, folderName);
  const path = join(folder, `${sidecar.instanceId}.json`);
  await mkdir(folder, { recursive: true });
  // Written aside and renamed: a reader never sees half of it.
  await writeFile(`${path}.new`, JSON.stringify({ ...sidecar, host: hostname() }));
  await rename(`${path}.new`, path);
  return () => rm(path, { force: true }).catch(() => {});
}

/** Those that run on this host, the youngest first. Files of those that were killed are removed. */
export async function runningSidecars(dataDirectory: string): Promise<RunningSidecar[]> {
  const folder = join(dataDirectory, folderName);
  const names = await readdir(folder).catch(() => []);
  const found = await Promise.all(
    names
      .filter((name) => name.endsWith(".json"))
      .map(async (name) => {
        const sidecar = parse(await readFile(join(folder, name), "utf8").catch(() => ""));
        if (sidecar?.host !== hostname()) return [];
        if (isAlive(sidecar.pid)) return [sidecar];
        await rm(join(folder, name), { force: true }).catch(() => {});
        return [];
      }),
  );
  return found.flat().toSorted((a, b) => b.startedAtMs - a.startedAtMs);
}

function parse(json: string): RunningSidecar | undefined {
  try {
    return JSON.parse(json) as RunningSidecar;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
