/** A sidecar whose YAML changes while it runs, for tests. */
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { expect } from "vitest";
import { Dapr } from "../../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import type { GetMetadataResponse } from "../../gen/outrider/runtime/v1/runtime_pb.ts";
import { Application } from "../end-to-end/application.ts";
import { makeProject, removeProject, SidecarProcess } from "../outrider.ts";

/** A Component, with its `spec.metadata` as a map. */
export function component(
  name: string,
  type: string,
  metadata: Readonly<Record<string, string>> = {},
): string {
  const items = Object.entries(metadata).map(([key, value]) => ({ name: key, value }));
  return `---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: ${name}}
spec: {type: ${type}, metadata: ${JSON.stringify(items)}}
`;
}

/** A Subscription with a route for each event. */
export function subscription(name: string, pubsubname: string, topic: string, route: string): string {
  return `---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: ${name}}
spec: {pubsubname: ${pubsubname}, topic: ${topic}, routes: {default: ${route}}}
`;
}

/** A running sidecar, its application, and the folder of its YAML. */
export class Project implements AsyncDisposable {
  readonly directory: string;
  sidecar!: SidecarProcess;
  app!: Application;
  readonly #words: readonly string[];

  private constructor(directory: string, words: readonly string[]) {
    this.directory = directory;
    this.#words = words;
  }

  /** Starts one with these files in its folder. */
  static async start(files: Readonly<Record<string, string>>, ...words: readonly string[]): Promise<Project> {
    const project = new Project(await makeProject(), words);
    await mkdir(project.path(""));
    for (const [name, text] of Object.entries(files)) await writeFile(project.path(name), text);
    await project.startAgain();
    return project;
  }

  /** Where a file of the folder is. */
  path(name: string): string {
    return join(this.directory, "resources", name);
  }

  async startAgain(): Promise<void> {
    const words = ["--resources-path", "resources", "--log-level", "debug", ...this.#words];
    this.sidecar = await SidecarProcess.start({ cwd: this.directory }, ...words);
    this.app = new Application(this.sidecar.grpcPort);
  }

  /** Ends the process at once. */
  async kill(): Promise<void> {
    this.app[Symbol.dispose]();
    this.sidecar.kill("SIGKILL");
    await this.sidecar.ended;
  }

  /** Writes a file as editors do: aside, and then in its place. Removes it when there is no text. */
  async write(name: string, text: string | undefined): Promise<void> {
    if (text === undefined) return rm(this.path(name));
    await writeFile(this.path(`.${name}.swp`), text);
    await rename(this.path(`.${name}.swp`), this.path(name));
  }

  /** Writes a file, and waits until the change is in force. */
  async apply(name: string, text: string | undefined): Promise<GetMetadataResponse> {
    return this.#change(name, text, true);
  }

  /** Writes a file, and waits until the change is refused. */
  async refuse(name: string, text: string): Promise<GetMetadataResponse> {
    return this.#change(name, text, false);
  }

  /** Types of components by name. */
  async components(): Promise<Readonly<Record<string, string>>> {
    const { components } = await this.app.runtime.getMetadata({});
    return Object.fromEntries(components.map(({ name, type }) => [name, type]));
  }

  /** Dapr's API of the same sidecar. */
  get dapr(): { readonly grpc: Client<typeof Dapr> } {
    const baseUrl = `http://127.0.0.1:${this.sidecar.grpcPort}`;
    return { grpc: createClient(Dapr, createGrpcTransport({ baseUrl })) };
  }

  async metrics(): Promise<string> {
    return (await fetch(`http://127.0.0.1:${this.sidecar.metricsPort}/metrics`)).text();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.app[Symbol.dispose]();
    await this.sidecar[Symbol.asyncDispose]();
    await removeProject(this.directory);
  }

  async #change(name: string, text: string | undefined, applied: boolean): Promise<GetMetadataResponse> {
    const before = await this.app.runtime.getMetadata({});
    await this.write(name, text);
    const at = (answer: GetMetadataResponse) =>
      answer.lastReload && Number(answer.lastReload.at!.seconds) + answer.lastReload.at!.nanos / 1e9;
    const since = at(before) ?? 0;
    await expect
      .poll(
        async () => {
          const now = await this.app.runtime.getMetadata({});
          return (at(now) ?? 0) > since ? now.lastReload!.applied : "nothing yet";
        },
        { timeout: 20_000, interval: 20 },
      )
      .toBe(applied);
    return this.app.runtime.getMetadata({});
  }
}
