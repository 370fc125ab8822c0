/**
 * The folder of a test run: the data of every server it starts, and the process ids of all of them.
 *
 * A reaper watches over it, a shell that waits for the end of the process that made the folder, however that ends. Then
 * it kills every server, unmounts what was mounted there and removes the folder, so that nothing is left even of a run that was killed.
 */
import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How processes that a test run starts, such as vitest's workers, learn of its folder. */
const variable = "OUTRIDER_TEST_RUN";

// Standard input ends when the process at its other end does. A frozen process dies of SIGKILL as well.
const reaper = `
  cat >/dev/null
  for pid in $(ls "$0/pids"); do kill -9 "-$pid"; kill -9 "$pid"; done 2>/dev/null
  grep -o " $0/[^ ]*" /proc/mounts | xargs -r umount -l 2>/dev/null
  rm -rf "$0" || { sleep 1; rm -rf "$0"; }
`;

/** A folder for servers, and how to end all that is in it. */
export interface RunFolder extends AsyncDisposable {
  readonly path: string;
}

/** Makes the folder of this run, and makes it known to every process that this one starts. */
export function openRunFolder(): RunFolder {
  // Short: a Unix socket's path in it must stay under 108 bytes.
  const path = mkdtempSync(join(tmpdir(), "or-"));
  // Some servers refuse to be root, and are another user then, who must pass.
  chmodSync(path, 0o711);
  mkdirSync(join(path, "pids"));
  const child = spawn("sh", ["-c", reaper, path], { stdio: ["pipe", "ignore", "ignore"], detached: true });
  child.unref();
  child.stdin.on("error", () => {});
  if ("unref" in child.stdin && typeof child.stdin.unref === "function") child.stdin.unref();
  process.env[variable] = path;
  const ended = new Promise<void>((done) => child.once("close", () => done()));
  return {
    path,
    async [Symbol.asyncDispose]() {
      child.ref();
      child.stdin.end();
      await ended;
      delete process.env[variable];
    },
  };
}

/** The folder of the run that this process belongs to; outside of one, such as in a benchmark, one of its own. */
export function runFolder(): string {
  return process.env[variable] ?? openRunFolder().path;
}

/** A new folder in the run's. */
export function serverFolder(name: string): string {
  const path = mkdtempSync(join(runFolder(), `${name}-`));
  chmodSync(path, 0o711);
  return path;
}

/** Puts a process and its group into the reaper's care. */
export function watch(pid: number): void {
  writeFileSync(join(runFolder(), "pids", String(pid)), "");
}

/** Takes a process that has ended out of it. */
export function forget(pid: number): void {
  rmSync(join(runFolder(), "pids", String(pid)), { force: true });
}
