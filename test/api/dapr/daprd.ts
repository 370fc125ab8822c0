/** A sidecar as Dapr's users start it, for tests: the one place that knows how. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Dapr } from "../../../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import { freePorts } from "../../servers/ports.ts";
import { until } from "../../servers/until.ts";

/** What can be said about a sidecar. */
export interface DaprdOptions {
  /** Documents of `--resources-path`. */
  readonly resources?: string;
  /** Where its application listens. */
  readonly app?: { readonly port: number; readonly protocol?: string };
  readonly appId?: string;
  readonly flags?: readonly string[];
  /** Documents of `--config`, a file each. */
  readonly configs?: readonly string[];
  /** Further files of the resources folder, by name. */
  readonly files?: Readonly<Record<string, string>>;
  /** Undefined: that of the tests. Else these variables alone. */
  readonly env?: Readonly<Record<string, string>>;
  /** False: it is not waited until the sidecar says that it is healthy. */
  readonly wait?: boolean;
}

/** A subscription, as metadata over HTTP has it. */
export interface SubscriptionEntry {
  readonly pubsubname: string;
  readonly topic: string;
  readonly rules?: readonly { readonly match?: string; readonly path?: string }[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly deadLetterTopic?: string;
  readonly type: string;
}

/** The part of metadata that tests read. */
export interface MetadataEntry {
  readonly id: string;
  readonly components?: readonly { readonly name: string }[];
  readonly subscriptions?: readonly SubscriptionEntry[];
  readonly appConnectionProperties?: Readonly<Record<string, unknown>>;
}

const executable = resolve(import.meta.dirname, "../../../src/outriderd.ts");
/** How often it is tried to start one whose ports turn out to be taken. */
const maxTries = 5;
const portNames = ["grpc", "http", "internal", "public", "metrics"] as const;

/** A running sidecar. */
export class Daprd {
  readonly appId: string;
  readonly #ports: Readonly<Record<(typeof portNames)[number], number>>;
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  /** Where its resources are; other files may be put beside them. */
  readonly resourcesPath: string;
  readonly #folder: string;
  #log = "";
  #grpc: Client<typeof Dapr> | undefined;

  private constructor(appId: string, folder: string, options: DaprdOptions, ports: readonly number[]) {
    const { app, configs = [], env, flags = [] } = options;
    this.resourcesPath = join(folder, "resources");
    this.appId = appId;
    this.#folder = folder;
    const [grpc, http, internal, open, metrics] = ports as [number, number, number, number, number];
    this.#ports = { grpc, http, internal, public: open, metrics };
    const words = [
      ...["--log-level=debug", `--app-id=${appId}`, `--app-protocol=${app?.protocol ?? "http"}`],
      ...[`--dapr-grpc-port=${grpc}`, `--dapr-http-port=${http}`, `--dapr-internal-grpc-port=${internal}`],
      ...["--dapr-internal-grpc-listen-address=127.0.0.1", "--dapr-listen-addresses=127.0.0.1"],
      ...[`--dapr-public-port=${open}`, "--dapr-public-listen-address=127.0.0.1"],
      ...[`--metrics-port=${metrics}`, "--metrics-listen-address=127.0.0.1"],
      ...["--enable-app-health-check=false", "--app-health-probe-interval=0", "--app-health-threshold=0"],
      ...["--mode=standalone", "--enable-mtls=false", "--enable-api-logging=true"],
      ...(app ? [`--app-port=${app.port}`] : []),
      `--resources-path=${this.resourcesPath}`,
      ...configs.map((_, index) => `--config=${join(folder, `config-${index}.yaml`)}`),
      ...flags,
      "--enable-profiling",
    ];
    this.#child = spawn(process.execPath, [executable, ...words], {
      cwd: folder,
      env: { ...(env ?? { ...process.env, NODE_OPTIONS: undefined }) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const output of [this.#child.stdout!, this.#child.stderr!])
      output.setEncoding("utf8").on("data", (text: string) => {
        this.#log += text;
      });
    this.#ended = new Promise((done) => this.#child.once("close", (code) => done(code)));
  }

  static async start(options: DaprdOptions = {}): Promise<Daprd> {
    for (let tries = 1; ; tries++) {
      const daprd = await Daprd.#spawn(options);
      try {
        await daprd.#ready(options.wait ?? true);
        return daprd;
      } catch (error) {
        await daprd[Symbol.asyncDispose]();
        // A port may have been taken since it was found free: the sidecar is to have those of its flags or none.
        if (tries < maxTries && /something else listens on/.test(daprd.log)) continue;
        throw new Error(`the sidecar did not start:\n${daprd.log}`, { cause: error });
      }
    }
  }

  static async #spawn(options: DaprdOptions): Promise<Daprd> {
    const { resources, configs = [], files = {} } = options;
    const folder = await mkdtemp(join(tmpdir(), "outriderd-test-"));
    await mkdir(join(folder, "resources"));
    const all = { ...(resources !== undefined && { "all.yaml": resources }), ...files };
    for (const [name, text] of Object.entries(all)) await writeFile(join(folder, "resources", name), text);
    for (const [index, text] of configs.entries())
      await writeFile(join(folder, `config-${index}.yaml`), text);
    const ports = await freePorts(portNames.length);
    return new Daprd(options.appId ?? randomUUID(), folder, options, ports);
  }

  /** Throws as soon as it ends: what answers on its port then is somebody else. */
  async #ready(wait: boolean): Promise<void> {
    const isReady = async () => this.#hasEnded || (await this.health(wait ? "" : "/outbound")) === 204;
    await until(isReady, "the sidecar is healthy", 25_000);
    if (this.#hasEnded) throw new Error("it has ended");
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  get httpPort(): number {
    return this.#ports.http;
  }

  get grpcPort(): number {
    return this.#ports.grpc;
  }

  get publicPort(): number {
    return this.#ports.public;
  }

  get ports(): readonly number[] {
    return Object.values(this.#ports);
  }

  /** What the metrics port says. */
  async metrics(): Promise<string> {
    return (await fetch(`http://127.0.0.1:${this.#ports.metrics}/metrics`)).text();
  }

  /** Everything that it has logged. */
  get log(): string {
    return this.#log;
  }

  get grpc(): Client<typeof Dapr> {
    const baseUrl = `http://127.0.0.1:${this.grpcPort}`;
    this.#grpc ??= createClient(Dapr, createGrpcTransport({ baseUrl }));
    return this.#grpc;
  }

  url(path: string): string {
    return `http://127.0.0.1:${this.httpPort}${path}`;
  }

  async health(path = ""): Promise<number> {
    return (await fetch(this.url(`/v1.0/healthz${path}`))).status;
  }

  async metadata(): Promise<MetadataEntry> {
    return (await (await fetch(this.url("/v1.0/metadata"))).json()) as MetadataEntry;
  }

  /** Publishes over HTTP; returns the status. */
  async publish(
    topic: string,
    data = "",
    headers: Readonly<Record<string, string>> = {},
    pubsub = "mypub",
  ): Promise<number> {
    // fetch gives text a type of its own, and bytes none.
    const body = Buffer.from(data);
    const response = await fetch(this.url(`/v1.0/publish/${pubsub}/${topic}`), {
      method: "POST",
      headers,
      body,
    });
    return response.status;
  }

  /** Publishes over gRPC. */
  async publishEvent(topic: string, data = "", dataContentType = "", pubsubName = "mypub"): Promise<void> {
    await this.grpc.publishEvent({ pubsubName, topic, data: Buffer.from(data), dataContentType });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Its exit code, once it has ended. */
  exitCode(): Promise<number | null> {
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** A component in memory, with what else its `spec.metadata` has. */
export function inMemory(name = "mypub", metadata: Readonly<Record<string, string>> = {}): string {
  const items = Object.entries(metadata).map(([key, value]) => ({ name: key, value }));
  return `---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: ${name}
spec:
  type: pubsub.in-memory
  version: v1
  metadata: ${JSON.stringify(items)}
`;
}

/** A Subscription of v1alpha1; `more` is what else its spec has, as JSON. */
export function v1(name: string, topic: string, route: string, more: object = {}): string {
  return subscription("v1alpha1", name, { pubsubname: "mypub", topic, route, ...more });
}

/** A Subscription of v2alpha1 with a default route. */
export function v2(name: string, topic: string, route: string, more: object = {}): string {
  return subscription("v2alpha1", name, { pubsubname: "mypub", topic, routes: { default: route }, ...more });
}

/** A Subscription of v2alpha1 with the routes that are given. */
export function v2Routes(name: string, topic: string, routes: object): string {
  return subscription("v2alpha1", name, { pubsubname: "mypub", topic, routes });
}

function subscription(version: string, name: string, { scopes, ...spec }: Record<string, unknown>): string {
  return `---
apiVersion: dapr.io/${version}
kind: Subscription
metadata:
  name: ${name}
spec: ${JSON.stringify(spec)}
${scopes === undefined ? "" : `scopes: ${JSON.stringify(scopes)}\n`}`;
}
