/**
 * Runs the two applications, each beside a sidecar of its own, and starts again whatever dies.
 *
 * The four are processes by themselves, so that any of them can be killed alone. (`outrider run -- COMMAND`
 * runs an application and its sidecar as one, which is what most want.)
 */
import { type ChildProcess, spawn } from "node:child_process";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const { values: flags } = parseArgs({
  options: {
    "data-dir": { type: "string", default: join(import.meta.dirname, ".outrider") },
    every: { type: "string", default: "1000" },
    stock: { type: "string", default: "10000" },
    resources: { type: "string" },
  },
});
const outrider = resolve(import.meta.dirname, "../../src/main.ts");
/** Between the end of a process and its next start, in milliseconds. */
const restartAfterMs = 500;
/** How long the end may take until it is a kill, in milliseconds. */
const graceMs = 10_000;

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stop.abort());
const say = (name: string, line: string) => process.stdout.write(`${name.padEnd(17)} | ${line}\n`);

say("start", "kill -9 whom you like; type an order, such as 3 tea; Ctrl-C ends all");
sidecar("shop", (port) => application("shop", port, flags.every));
sidecar("warehouse", (port) => application("warehouse", port, flags.stock));

/** Keeps a sidecar running. Calls `found` once, with its port, which stays the same: its application knows no other. */
function sidecar(app: string, found: (port: number) => void): void {
  let port = 0;
  keepRunning(`${app} sidecar`, () => {
    const ports = ["--grpc-port", String(port), "--http-port", "0", "--metrics-port", "0"];
    const words = ["run", "--app-id", app, "--data-dir", flags["data-dir"], ...ports, "--log-as-json"];
    if (flags.resources) words.push("--resources", flags.resources);
    // Detached from the terminal: Ctrl-C comes to it from here, once.
    const child = spawn(process.execPath, [outrider, ...words], {
      detached: true,
      stdio: ["ignore", "inherit", "pipe"],
    });
    createInterface(child.stderr).on("line", (line) => {
      const log = logLine(line);
      say(`${app} sidecar`, log.grpc_port ? `answers on port ${log.grpc_port}` : log.msg);
      if (port !== 0 || !log.grpc_port) return;
      port = log.grpc_port;
      found(port);
    });
    return child;
  });
}

/** What a sidecar logs; its mistakes at the start are plain text. */
function logLine(line: string): { readonly msg: string; readonly grpc_port?: number } {
  try {
    return JSON.parse(line);
  } catch {
    return { msg: line };
  }
}

/** Keeps an application running. All that it is told is where its sidecar is. */
function application(app: string, port: number, argument: string): void {
  keepRunning(app, () => {
    const child = spawn(process.execPath, [join(import.meta.dirname, `${app}.ts`), argument], {
      env: { ...process.env, OUTRIDER_GRPC_ENDPOINT: `127.0.0.1:${port}` },
      // The shop reads what is typed.
      stdio: [app === "shop" ? "inherit" : "ignore", "pipe", "pipe"],
    });
    for (const stream of [child.stdout!, child.stderr!])
      createInterface(stream).on("line", (line) => say(app, line));
    return child;
  });
}

/** Starts it, and again when it has ended, until all is to end. */
function keepRunning(name: string, start: () => ChildProcess): void {
  if (stop.signal.aborted) return;
  const child = start();
  say(name, `runs as process ${child.pid}`);
  const end = () => {
    child.kill("SIGTERM");
    setTimeout(() => child.kill("SIGKILL"), graceMs).unref();
  };
  stop.signal.addEventListener("abort", end, { once: true });
  child.once("close", (code, signal) => {
    stop.signal.removeEventListener("abort", end);
    if (stop.signal.aborted) return;
    say(name, `ended with ${signal ?? code}`);
    setTimeout(() => keepRunning(name, start), restartAfterMs);
  });
}
