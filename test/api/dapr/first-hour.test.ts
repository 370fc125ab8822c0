/** docs/first-hour-with-dapr.md: its files, and its commands typed into shells, on Redis and without a broker. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { missing, Shell, shell } from "../../examples/checkout.ts";
import { freePorts } from "../../servers/ports.ts";
import { startRedis } from "../../servers/redis.ts";
import { describeWith } from "../../servers/require.ts";
import type { Server } from "../../servers/server.ts";
import { program } from "../../servers/tools.ts";
import { until } from "../../servers/until.ts";
import { sdkFolder } from "./sdks/sdk-folder.ts";

const root = resolve(import.meta.dirname, "../../..");
const page = await readFile(join(root, "docs", "first-hour-with-dapr.md"), "utf8");
const commands = [...page.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) =>
  block!.trim().split("\n"),
);
const files = [...page.matchAll(/^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$/gms)];

const json = "-H 'Content-Type: application/json'";
const state = "http://localhost:3500/v1.0/state/statestore";
const publish = (topic: string, id: number) =>
  `curl -X POST ${json} -d '{"id": ${id}}' http://localhost:3500/v1.0/publish/pubsub/${topic}`;
const edit = (application: string, word: string) => `sed -i "s/'${word}'/'new ${word}'/" ${application}.py`;

/** What these tests type; another command on the page makes the first test fail. */
const onRedis = "outriderd --app-id shop --app-port 6001 --resources-path redis";
const save = `curl -X POST ${json} -d '[{"key": "name", "value": "Bruce Wayne"}]' ${state}`;
const read = `curl ${state}/name`;
const keys = "redis-cli keys '*'";
const data = "redis-cli hget 'shop||name' data";
const remove = `curl -X DELETE ${state}/name`;
const listener = {
  file: "listener",
  topic: "orders",
  word: "order",
  start: "uvicorn listener:app --port 6001 --reload",
};
const streamer = {
  file: "streamer",
  topic: "shipments",
  word: "shipment",
  start: "uvicorn streamer:app --port 6002 --reload",
};
const warehouse =
  "outriderd --app-id warehouse --app-port 6001 --dapr-http-port 3501 --dapr-grpc-port 50002 --metrics-port 9091 --resources-path embedded";
const shop = "outriderd --app-id shop --resources-path embedded";
const itsOwnSidecar = "DAPR_HTTP_PORT=3501 DAPR_GRPC_PORT=50002 ";

type Application = typeof listener;
const life = ({ file, topic, word, start }: Application) => [
  start,
  publish(topic, 1),
  publish(topic, 2),
  edit(file, word),
  publish(topic, 3),
];

it("docs/first-hour-with-dapr.md shows these commands and no others", () => {
  expect(commands).toEqual([
    ...[onRedis, save, read, keys, data, remove],
    ...[...life(listener), ...life(streamer)],
    ...[onRedis, publish(listener.topic, 4), publish(streamer.topic, 4)],
    ...[warehouse, shop, itsOwnSidecar + streamer.start],
  ]);
});

vi.setConfig({ testTimeout: 300_000 });
/** Longer than anything takes on a busy machine. */
const withinMs = 60_000;

/** A folder with the page's files, and shells in it that find the page's programs. */
class Hour implements AsyncDisposable {
  readonly #folder: string;
  readonly #ports: ReadonlyMap<string, number>;
  readonly #python: string;
  readonly #release: AsyncDisposableStack;
  readonly #sidecars: Shell[] = [];

  private constructor(
    folder: string,
    ports: ReadonlyMap<string, number>,
    python: string,
    release: AsyncDisposableStack,
  ) {
    this.#folder = folder;
    this.#ports = ports;
    this.#python = python;
    this.#release = release;
  }

  static async start(redis?: Server): Promise<Hour> {
    await using release = new AsyncDisposableStack();
    if (redis) release.use(redis);
    const folder = await mkdtemp(join(tmpdir(), "outrider-first-hour-"));
    release.defer(() => rm(folder, { recursive: true, force: true }));
    // Those of the page may be taken on this machine.
    const names = ["3500", "3501", "50001", "50002", "9090", "9091", "6001", "6002"];
    const free = await freePorts(names.length);
    const ports = new Map(names.map((name, index) => [name, free[index]!]));
    if (redis) ports.set("6379", redis.port);
    await mkdir(join(folder, ".outrider"));
    const hour = new Hour(folder, ports, join(sdkFolder("python"), "bin"), release.move());
    for (const [, name, text] of files) {
      await mkdir(dirname(join(folder, name!)), { recursive: true });
      await writeFile(join(folder, name!), hour.#onItsPorts(text!));
    }
    await mkdir(join(folder, "bin"));
    await symlink(join(built, "outriderd"), join(folder, "bin", "outriderd"));
    if (redis)
      await writeFile(
        join(folder, "bin", "redis-cli"),
        `#!/bin/sh\nexec '${program("redis-cli")}' -p ${redis.port} "$@"\n`,
        { mode: 0o755 },
      );
    return hour;
  }

  /** A command that ends. */
  run(command: string): Promise<string> {
    return shell(this.#typed(command), this.#folder);
  }

  /** A command that stays, in a terminal of its own. */
  terminal(command: string): Shell {
    return this.#release.use(new Shell(this.#typed(command), this.#folder));
  }

  /** A sidecar, once it can be talked to. */
  async sidecar(command: string): Promise<Shell> {
    const sidecar = this.terminal(command);
    this.#sidecars.push(sidecar);
    const port = /--dapr-http-port (\d+)/.exec(command)?.[1] ?? "3500";
    const health = this.#onItsPorts(`http://localhost:${port}/v1.0/healthz/outbound`);
    await until(async () => (await fetch(health)).status === 204, "the sidecar is there", withinMs);
    return sidecar;
  }

  /** Throws if a sidecar has ended, or has begun anew. */
  async expectSidecarsUntouched(): Promise<void> {
    for (const sidecar of this.#sidecars) {
      expect(await Promise.race([sidecar.ended, "running"])).toBe("running");
      expect(sidecar.output).not.toMatch(/level=(error|fatal)/);
    }
  }

  /** As the page, with the ports of this machine. */
  #onItsPorts(text: string): string {
    return text.replace(/\b(3500|3501|50001|50002|9090|9091|6001|6002|6379)\b/g, (port) =>
      String(this.#ports.get(port)),
    );
  }

  #typed(command: string): string {
    const defaults = [
      ["--dapr-http-port", "3500"],
      ["--dapr-grpc-port", "50001"],
      ["--metrics-port", "9090"],
    ];
    const usual = defaults.filter(([flag]) => !command.includes(flag!)).map((words) => words.join(" "));
    const typed = command.startsWith("outriderd") ? `${command} ${usual.join(" ")}` : command;
    const own = this.#onItsPorts("DAPR_HTTP_PORT=3500 DAPR_GRPC_PORT=50001");
    return `export ${own} PATH="$PWD/bin:${this.#python}:$PATH"; ${this.#onItsPorts(typed)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#release.disposeAsync();
  }
}

const reason = await missing("python", async () => sdkFolder("python"));
let built: string;
beforeAll(async () => {
  built = await mkdtemp(join(tmpdir(), "outriderd-build-"));
  if (reason === undefined)
    await promisify(execFile)(process.execPath, [join(root, "build.ts"), built], { cwd: root });
}, 120_000);
afterAll(() => rm(built, { recursive: true, force: true }));

const said = (terminal: Shell, line: string) =>
  expect.poll(() => terminal.output.split("\n"), { timeout: withinMs, interval: 20 }).toContainEqual(line);
const isUp = (terminal: Shell) =>
  expect
    .poll(() => terminal.output, { timeout: withinMs, interval: 20 })
    .toMatch(/Application startup complete/);

/** An application is started, ended and started again, and edited while it runs. Returns the terminal that it goes on in. */
async function live(hour: Hour, { file, topic, word, start }: Application, own = ""): Promise<Shell> {
  const first = hour.terminal(own + start);
  await isUp(first);
  await hour.run(publish(topic, 1));
  await said(first, `${word} {'id': 1}`);
  first.interrupt();
  await first.ended;
  await hour.run(publish(topic, 2));
  const second = hour.terminal(own + start);
  await said(second, `${word} {'id': 2}`);
  await hour.run(edit(file, word));
  await expect
    .poll(() => second.output.match(/Application startup complete/g), { timeout: withinMs, interval: 20 })
    .toHaveLength(2);
  await hour.run(publish(topic, 3));
  await said(second, `new ${word} {'id': 3}`);
  // In their order. One whose answer was cut off may come again.
  const ids = [...(first.output + second.output).matchAll(/\{'id': (\d)\}/g)].map(([, id]) => id);
  expect(ids.filter((id, index) => id !== ids[index - 1])).toEqual(["1", "2", "3"]);
  await hour.expectSidecarsUntouched();
  return second;
}

describeWith("redis", "a first hour with Dapr's API on Redis", () => {
  let hour: Hour | undefined;
  let sidecar: Shell;
  const applications: Shell[] = [];
  beforeAll(async () => {
    if (reason !== undefined) return;
    hour = await Hour.start(await startRedis());
    sidecar = await hour.sidecar(onRedis);
  }, 120_000);
  afterAll(() => hour?.[Symbol.asyncDispose]());

  it("state is saved and read with curl, and found with redis-cli", async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await hour!.run(save);
    expect(await hour!.run(read)).toContain('"Bruce Wayne"');
    expect(await hour!.run(keys)).toContain("shop||name");
    expect(await hour!.run(data)).toBe('"Bruce Wayne"\n');
    await hour!.run(remove);
    expect(await hour!.run(read)).not.toContain("Bruce Wayne");
  });

  it("a FastAPI application that listens gets its events, restarted and reloaded", async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    applications.push(await live(hour!, listener));
  });

  it("a FastAPI application that streams gets its events, restarted and reloaded", async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    applications.push(await live(hour!, streamer));
  });

  it("both get their events also from a sidecar that was restarted", async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    sidecar.interrupt();
    await sidecar.ended;
    await hour!.sidecar(onRedis);
    for (const [index, { topic, word }] of [listener, streamer].entries()) {
      await hour!.run(publish(topic, 4));
      await said(applications[index]!, `new ${word} {'id': 4}`);
    }
  });
});

describe("a first hour with Dapr's API without a broker", () => {
  let hour: Hour | undefined;
  beforeAll(async () => {
    if (reason !== undefined) return;
    hour = await Hour.start();
    await hour.sidecar(warehouse);
    await hour.sidecar(shop);
  }, 120_000);
  afterAll(() => hour?.[Symbol.asyncDispose]());

  it("state is saved and read with curl", async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await hour!.run(save);
    expect(await hour!.run(read)).toContain('"Bruce Wayne"');
    await hour!.run(remove);
    expect(await hour!.run(read)).not.toContain("Bruce Wayne");
  });

  it("a FastAPI application that listens gets events of the other sidecar, restarted and reloaded", async ({
    skip,
  }) => {
    if (reason !== undefined) skip(reason);
    await live(hour!, listener);
  });

  it("a FastAPI application that streams gets events of the other sidecar, restarted and reloaded", async ({
    skip,
  }) => {
    if (reason !== undefined) skip(reason);
    await live(hour!, streamer, itsOwnSidecar);
  });
});
