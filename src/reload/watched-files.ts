/** Notices when files change: the platform tells, and from time to time it is looked whether it has told everything. */
import { type FSWatcher, watch } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Log } from "../telemetry/log.ts";

/** What is watched, and for whom. */
export interface WatchedFilesOptions {
  /** YAML files, and folders of such. */
  readonly paths: readonly string[];
  /** How often it is looked by itself, in milliseconds. Default 5,000. */
  readonly lookMs?: number | undefined;
  /** Called when something may have changed, and nothing has for a moment. */
  readonly changed: () => void;
  readonly log: Log;
}

/** Whoever writes a file writes several times: how long nothing may happen until it is read, in milliseconds. */
const quietMs = 100;
/** How long that is waited for at most, in milliseconds. */
const patienceMs = 1000;
/** How often it is looked by itself, in milliseconds: network folders and links to elsewhere do not tell. */
const defaultLookMs = 5000;
/** Files of a folder that are read; and the link by which Kubernetes replaces all files of a ConfigMap at once. */
const relevant = /\.ya?ml$|^\.\.data$/i;

/** A folder that tells of changes in it. */
interface WatchedFolder {
  /** Another folder at the same path has another. */
  readonly inode: number;
  readonly watcher: FSWatcher;
}

/** See the head of this file. */
export class WatchedFiles {
  readonly #options: WatchedFilesOptions;
  readonly #folders = new Map<string, WatchedFolder>();
  #looking: NodeJS.Timeout | undefined;
  #quiet: NodeJS.Timeout | undefined;
  #firstAtMs = 0;
  #seen = "";
  #closed = false;

  constructor(options: WatchedFilesOptions) {
    this.#options = options;
  }

  /** Begins to watch. What has changed since `sinceMs`, milliseconds since 1970, is told of at once. */
  async start(sinceMs: number): Promise<void> {
    await this.#watchFolders();
    this.#seen = await this.#look();
    if (await this.#changedSince(sinceMs)) this.#touch();
    this.#lookLater();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#looking);
    clearTimeout(this.#quiet);
    for (const { watcher } of this.#folders.values()) watcher.close();
    this.#folders.clear();
  }

  #lookLater(): void {
    if (this.#closed) return;
    this.#looking = setTimeout(async () => {
      await this.#watchFolders();
      if ((await this.#look()) !== this.#seen) this.#touch();
      this.#lookLater();
    }, this.#options.lookMs ?? defaultLookMs);
    this.#looking.unref();
  }

  /** Something has happened: it is told when no more does. */
  #touch(): void {
    if (this.#closed) return;
    const nowMs = Date.now();
    if (this.#quiet === undefined) this.#firstAtMs = nowMs;
    else if (nowMs - this.#firstAtMs > patienceMs) return;
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(async () => {
      this.#quiet = undefined;
      // Looked at before it is read: what changes while it is read is noticed the next time.
      this.#seen = await this.#look();
      if (!this.#closed) this.#options.changed();
    }, quietMs);
  }

  /** Watches the folders that there are now; of a file, the one that it is in, because editors replace files. */
  async #watchFolders(): Promise<void> {
    const names = new Map<string, Set<string> | "all">();
    for (const path of this.#options.paths) {
      if (await isFolder(path)) names.set(path, "all");
      else {
        const known = names.get(dirname(path)) ?? new Set<string>();
        if (known !== "all") names.set(dirname(path), known.add(basename(path)));
      }
    }
    for (const [folder, wanted] of names) await this.#watchFolder(folder, wanted);
  }

  async #watchFolder(folder: string, names: ReadonlySet<string> | "all"): Promise<void> {
    const inode = await stat(folder).then(
      ({ ino }) => ino,
      () => undefined,
    );
    const known = this.#folders.get(folder);
    if (this.#closed || known?.inode === inode) return;
    known?.watcher.close();
    this.#folders.delete(folder);
    if (inode === undefined) return;
    try {
      const watcher = watch(folder, { persistent: false }, (_event, name) => {
        const told = name === null || (names === "all" ? relevant.test(name) : names.has(name));
        if (told || name === "..data") this.#touch();
      });
      watcher.on("error", () => {
        watcher.close();
        if (this.#folders.get(folder)?.watcher === watcher) this.#folders.delete(folder);
      });
      this.#folders.set(folder, { inode, watcher });
    } catch (err) {
      this.#options.log.debug({ err, folder }, "the folder does not tell of changes; it is looked into");
    }
  }

  /** What the files look like from outside. */
  async #look(): Promise<string> {
    const seen = await Promise.all((await this.#files()).map(async (path) => [path, await lookOf(path)]));
    return JSON.stringify(seen);
  }

  async #changedSince(sinceMs: number): Promise<boolean> {
    const paths = [...this.#options.paths, ...(await this.#files())];
    const times = await Promise.all(paths.map((path) => stat(path).catch(() => undefined)));
    return times.some((found) => found !== undefined && found.ctimeMs > sinceMs);
  }

  async #files(): Promise<readonly string[]> {
    const files = this.#options.paths.map(async (path) => {
      const names = await readdir(path).catch(() => undefined);
      return names ? names.filter((name) => relevant.test(name)).map((name) => join(path, name)) : [path];
    });
    return (await Promise.all(files)).flat();
  }
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

async function lookOf(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  return found ? `${found.ino} ${found.size} ${found.mtimeMs} ${found.ctimeMs}` : "";
}
