/** A sidecar as Dapr's users start it, for tests: the one place that knows how. */
import { randomUUID } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect } from "vitest";
import { Dapr } from "../../../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import { freePorts, makeProject, Outrider, removeProject } from "../../outrider.ts";

/** What can be said about a sidecar. */
export interface DaprdOptions {
  /** Documents of `--resources-path`. */
  readonly resources?: string;
  /** Where its application listens. */
  readonly app?: { readonly port: number; readonly protocol?: string };
  readonly appId?: string;
  readonly flags?: readonly string[];
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

/** A running sidecar. */
export class Daprd {
  readonly appId: string;
  readonly #process: Outrider;
  readonly #folder: string;
  #grpc: Client<typeof Dapr> | undefined;
  httpPort = 0;
  grpcPort = 0;

  private constructor(appId: string, folder: string, words: readonly string[], env: DaprdOptions["env"]) {
    this.appId = appId;
    this.#folder = folder;
    this.#process = new Outrider(words, { cwd: folder, env: env ?? {} });
  }

  static async start(options: DaprdOptions = {}): Promise<Daprd> {
    const { resources = "", app, flags = [], env, wait = true } = options;
    const appId = options.appId ?? randomUUID();
    const folder = await makeProject();
    const resourcesPath = join(folder, "resources");
    await mkdir(resourcesPath);
    await writeFile(join(resourcesPath, "all.yaml"), resources);
    const words = [
      "run",
      ...freePorts,
      `--app-id=${appId}`,
      `--resources-path=${resourcesPath}`,
      ...(app ? [`--app-port=${app.port}`, `--app-protocol=${app.protocol ?? "http"}`] : []),
      ...flags,
    ];
    const daprd = new Daprd(appId, folder, words, env);
    try {
      await daprd.#process.said(/^Ready\.$/m);
      const port = (name: string) => Number(new RegExp(`^ {2}${name} +\\S+:(\\d+)`, "m").exec(daprd.log)![1]);
      daprd.httpPort = port("http");
      daprd.grpcPort = port("grpc");
      if (wait) await expect.poll(() => daprd.health(), { timeout: 15_000, interval: 10 }).toBe(204);
      return daprd;
    } catch (error) {
      await daprd[Symbol.asyncDispose]();
      throw new Error(`the sidecar did not start:\n${daprd.log}`, { cause: error });
    }
  }

  /** Everything that it has logged. */
  get log(): string {
    return this.#process.stderr;
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
    this.#process.kill(signal);
  }

  /** Its exit code, once it has ended. */
  async exitCode(): Promise<number | null> {
    return (await this.#process.ended).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
    await removeProject(this.#folder);
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
