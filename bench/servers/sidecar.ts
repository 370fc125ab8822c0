/** The real sidecar, started as a user starts it. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePorts, type Server, startNode, stop } from "./child.ts";

/** How a sidecar is started. */
export interface SidecarSettings {
  /** What stands behind `state` and `pubsub`. "default": no YAML at all. */
  readonly store: Store;
  /** Where its files are. Default: a new temporary directory, gone when it has stopped. */
  readonly dataDirectory?: string;
  /** True: the bundle in dist/, else the sources. */
  readonly bundled?: boolean;
  /** An application that listens; the sidecar is ready when it has subscribed. */
  readonly app?: { readonly port: number; readonly protocol: "grpc" | "http" };
  /** Flags for Node itself, such as those of the profiler. */
  readonly nodeArgs?: readonly string[];
}

/** A name, or the whole YAML of the components. */
export type Store = "memory" | "sqlite" | "default" | { readonly yaml: string };

/** A sidecar that is ready. */
export interface Sidecar extends Server {
  readonly httpPort: number;
  /** From the start of the process to the first "ready", in milliseconds. */
  readonly readyAfterMs: number;
}

const types = {
  memory: { state: "state.in-memory", pubsub: "pubsub.in-memory" },
  sqlite: { state: "state.sqlite", pubsub: "pubsub.sqlite" },
} as const;

/** How often a sidecar that starts is asked whether it is ready, in milliseconds. */
const pollMs = 2;
const readyWithinMs = 20_000;

/** Starts a sidecar and waits until it is ready. */
export async function startSidecar(settings: SidecarSettings): Promise<Sidecar> {
  const own = settings.dataDirectory === undefined;
  const directory = settings.dataDirectory ?? (await makeDirectory());
  const [grpcPort, httpPort, metricsPort] = await freePorts(3);
  const ports = [
    `--dapr-grpc-port=${grpcPort}`,
    `--dapr-http-port=${httpPort}`,
    `--metrics-port=${metricsPort}`,
  ];
  const resources =
    settings.store === "default"
      ? []
      : [`--resources-path=${await writeResources(directory, settings.store)}`];
  const program = settings.bundled ? "dist/outrider.js" : "src/main.ts";
  const flags = [
    "--app-id=bench",
    "--log-as-json",
    "--log-level=error",
    `--data-dir=${directory}`,
    ...ports,
    ...resources,
    ...(settings.app ? [`--app-port=${settings.app.port}`, `--app-protocol=${settings.app.protocol}`] : []),
  ];
  const startedAt = performance.now();
  const child = startNode([program, "run", ...flags], settings.nodeArgs);
  const said: Buffer[] = [];
  for (const output of [child.stdout, child.stderr]) output.on("data", (bytes: Buffer) => said.push(bytes));
  const end = async () => {
    await stop(child);
    if (own) await rm(directory, { recursive: true, force: true });
  };
  const readyPath = settings.app ? "/v1.0/healthz" : "/healthz/ready";
  while (!(await isReady(httpPort!, readyPath))) {
    if (child.exitCode !== null || performance.now() - startedAt > readyWithinMs) {
      await end();
      throw new Error(`the sidecar did not get ready: ${Buffer.concat(said)}`);
    }
    await delay(pollMs);
  }
  const readyAfterMs = performance.now() - startedAt;
  for (const output of [child.stdout, child.stderr]) output.removeAllListeners("data").pipe(process.stderr);
  return { pid: child.pid!, grpcPort: grpcPort!, httpPort: httpPort!, readyAfterMs, stop: end };
}

/** A directory for the files of sidecars; who makes it removes it. */
export function makeDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), "outrider-bench-"));
}

async function writeResources(directory: string, store: Exclude<Store, "default">): Promise<string> {
  const text = typeof store === "string" ? componentsOf(store) : store.yaml;
  const folder = join(directory, "resources");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "components.yaml"), text);
  return folder;
}

function componentsOf(store: keyof typeof types): string {
  const resources = Object.entries(types[store]).map(([name, type]) =>
    [
      "apiVersion: dapr.io/v1alpha1",
      "kind: Component",
      `metadata: { name: ${name} }`,
      `spec: { type: ${type}, version: v1 }`,
      "",
    ].join("\n"),
  );
  return resources.join("---\n");
}

function isReady(port: number, path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request({ host: "127.0.0.1", port, path }, (response) => {
      response.resume();
      resolve(response.statusCode === 204);
    });
    asked.on("error", () => resolve(false));
    asked.end();
  });
}
