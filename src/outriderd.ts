#!/usr/bin/env node
/** The process that is started in the place of daprd: the same sidecar, with daprd's command line. */
import { enableCompileCache } from "node:module";

enableCompileCache();
// Loaded after the cache is on, so that it is in it.
const [{ runDaprd }, { processTerminal }] = await Promise.all([
  import("./cli/daprd/run.ts"),
  import("./cli/terminal.ts"),
]);
const exitCode = await runDaprd(processTerminal(), process.argv.slice(2));
for (const stream of [process.stdout, process.stderr]) {
  if (stream.writableLength > 0) await new Promise((resolve) => stream.write("", resolve));
}
process.exit(exitCode);
