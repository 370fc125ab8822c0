#!/usr/bin/env node
/** The process: everything that is not here or in cli/ can run in any other. */
import { enableCompileCache } from "node:module";

enableCompileCache();
// Loaded after the cache is on, so that it is in it.
const [{ runCommandLine }, { processTerminal }] = await Promise.all([
  import("./cli/program.ts"),
  import("./cli/terminal.ts"),
]);
const exitCode = await runCommandLine(processTerminal(), process.argv.slice(2));
// What is still open, such as a connection that is kept alive, has no more use.
for (const stream of [process.stdout, process.stderr]) {
  if (stream.writableLength > 0) await new Promise((resolve) => stream.write("", resolve));
}
process.exit(exitCode || process.exitCode);
