/** Loaded into a sidecar and its threads: the embedded store's throws when a file is there, and takes the file away. */
import { existsSync, rmSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

const lookEveryMs = 10;
const file = process.env["THROW_WHEN"] ?? "";

if (!isMainThread) {
  setInterval(() => {
    if (!existsSync(file)) return;
    rmSync(file);
    throw new Error("something that nobody thought of");
  }, lookEveryMs).unref();
}
