/** A disk with little room, for servers whose disk is to run full: a file system in memory. To mount it takes root. */
import { execFile } from "node:child_process";
import { chmod, mkdir, rm, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { serverFolder } from "./run-folder.ts";

const run = promisify(execFile);

/** Why there can be none here, as a sentence. Undefined if there can. */
export async function whyNoSmallDisk(): Promise<string | undefined> {
  try {
    await using _disk = await SmallDisk.mount(1);
    return undefined;
  } catch (error) {
    const [reason] = (error instanceof Error ? error.message : String(error)).trim().split("\n").slice(-1);
    return `no disk can be made that is small: ${reason}`;
  }
}

/** See the head of this file. It is gone when it is disposed of, and when the test run ends. */
export class SmallDisk implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async mount(megabytes: number): Promise<SmallDisk> {
    const path = join(serverFolder("disk"), "mounted");
    await mkdir(path);
    await run("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", path]);
    await chmod(path, 0o777);
    return new SmallDisk(path);
  }

  /** Takes all the room but so many bytes. */
  async fill(leaveBytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.path);
    await writeFile(this.#filler, Buffer.alloc(Math.max(0, bavail * bsize - leaveBytes)));
  }

  /** Gives it back. */
  async free(): Promise<void> {
    await rm(this.#filler, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run("umount", ["-l", this.path]);
  }

  get #filler(): string {
    return join(this.path, "filler");
  }
}
