/** A sidecar, and an application on it that sees whether others disturb it. */
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { expect } from "vitest";
import { makeProject, removeProject, SidecarProcess } from "../outrider.ts";
import { parsePrometheusText } from "../telemetry/prometheus-text.ts";
import { Application, type Stream } from "./application.ts";

const topic = "witness";

/** See the head of this file. */
export class Witness implements AsyncDisposable {
  readonly directory: string;
  readonly sidecar: SidecarProcess;
  /** On a connection of its own. */
  readonly app: Application;
  readonly #stream: Stream;
  #published = 0;

  private constructor(directory: string, sidecar: SidecarProcess) {
    this.directory = directory;
    this.sidecar = sidecar;
    this.app = new Application(sidecar.grpcPort);
    this.#stream = this.app.subscribe([{ topic }]);
  }

  static async start(...words: readonly string[]): Promise<Witness> {
    const directory = await makeProject();
    const flags = ["--app-id", "app", "--log-level", "error", ...words];
    const sidecar = await SidecarProcess.start({ cwd: directory }, ...flags).catch(async (error: unknown) => {
      await removeProject(directory);
      throw error;
    });
    const witness = new Witness(directory, sidecar);
    await witness.#stream.heard("opened");
    return witness;
  }

  /** Sees to it that the stream that was open all the time gets what is published now, once and in order. */
  async expectUndisturbed(): Promise<void> {
    const texts = Array.from({ length: 10 }, (_, index) => `${this.#published + index}`);
    await this.app.publish(topic, ...texts);
    this.#published += texts.length;
    const deliveries = await this.#stream.delivered(this.#published);
    const got = deliveries.map(({ event }) => Buffer.from(event!.data).toString());
    expect(got).toEqual(Array.from({ length: this.#published }, (_, index) => String(index)));
    this.#stream.settle(deliveries.slice(-texts.length));
    expect(this.#stream.said.map((message) => message.case)).toEqual(["opened"]);
  }

  /** What a metric without labels, or the only one with others, shows now. 0 when it is not there. */
  async metric(name: string, topic?: string): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.sidecar.metricsPort}/metrics`)).text();
    const family = parsePrometheusText(text).get(name);
    const samples = family?.samples.filter(({ labels }) => topic === undefined || labels["topic"] === topic);
    return samples?.[0]?.value ?? 0;
  }

  /** Does something, and tells how many megabytes of memory the sidecar had at most meanwhile. */
  async peakMegabytes(work: () => Promise<void>): Promise<number> {
    const { pid } = this.sidecar;
    let peak = 0;
    const look = async () => {
      peak = Math.max(peak, await residentMegabytes(pid));
    };
    // Where it works, the system itself remembers the peak from here on.
    await writeFile(`/proc/${pid}/clear_refs`, "5").catch(() => {});
    const looking = setInterval(() => void look(), 100);
    try {
      await work();
      await look();
    } finally {
      clearInterval(looking);
    }
    return peak;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.app[Symbol.dispose]();
    await this.sidecar[Symbol.asyncDispose]();
    await removeProject(this.directory);
  }
}

/** Since when the system counts, on Linux; elsewhere now. */
async function residentMegabytes(pid: number): Promise<number> {
  try {
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) / 1024;
  } catch {
    const { stdout } = await promisify(execFile)("ps", ["-o", "rss=", "-p", String(pid)]);
    return Number(stdout) / 1024;
  }
}
