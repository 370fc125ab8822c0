/** Tells other processes at once that something was committed. */
import { closeSync, constants, type FSWatcher, openSync, watch, writeSync } from "node:fs";

/**
 * A file beside the database that is written to after a commit, and watched.
 * To watch the database's own files would not do: they are written to before
 * the commit can be seen.
 */
export class Bell {
  readonly #file: number | undefined;
  readonly #watcher: FSWatcher | undefined;
  readonly #clapper = Buffer.of(0);
  #heard = false;

  /** Calls `onRing` when anybody has rung, this process included. Without `listens` it only rings. */
  constructor(path: string, listens: boolean, onRing: () => void) {
    try {
      this.#file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
      if (!listens) return;
      this.#watcher = watch(path, { persistent: false }, () => {
        this.#heard = true;
        onRing();
      });
      this.#watcher.on("error", () => {
        this.#heard = false;
      });
      this.ring();
    } catch {
      // The operating system's limit of watches is reached, or it has none there: see `works`.
    }
  }

  /** Whether it has been heard here: until then it is not relied on. */
  get works(): boolean {
    return this.#heard;
  }

  ring(): void {
    if (this.#file === undefined) return;
    try {
      writeSync(this.#file, this.#clapper, 0, 1, 0);
    } catch {
      // The disk is full; others ask the file from time to time.
    }
  }

  close(): void {
    this.#watcher?.close();
    if (this.#file !== undefined) closeSync(this.#file);
  }
}
