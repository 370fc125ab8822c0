/** Every command that README.md shows, run as it stands there. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { copyFile, symlink } from "node:fs/promises";
import { delimiter, join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeProject, removeProject } from "./outrider.ts";

const root = resolve(import.meta.dirname, "..");
const readme = readFileSync(join(root, "README.md"), "utf8");

/** The lines of the fenced blocks of shell, without comments. */
const commands = [...readme.matchAll(/^```sh\n(.*?)^```/gms)].flatMap(([, block]) =>
  block!
    .split("\n")
    .map((line) => line.replace(/(^|\s)#.*/, "").trim())
    .filter(Boolean),
);

/** What these tests run; another command in the README makes the first test fail. */
const known = {
  start: "npm ci && npm start",
  test: "npm cit",
  subscribe: "npx node src/main.ts subscribe orders",
  publish: `npx node src/main.ts publish orders '{"total": 42}'`,
  set: "npx node src/main.ts state set greeting hello",
  get: "npx node src/main.ts state get greeting",
  curl: `curl -s http://127.0.0.1:3500/outrider.state.v1.StateService/Get --json '{"key": "greeting"}'`,
} as const;

interface Manifest {
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;

/** A command in a shell, in a process group of its own. */
class Shell implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #output = "";
  #heard = () => {};

  constructor(line: string, cwd: string) {
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(OUTRIDER|DAPR|OTEL|NODE_OPTIONS|NAMESPACE|npm_|VITEST)/.test(name),
    );
    // Only what a user has: whatever Node and npm are installed, of any version.
    const path = (process.env["PATH"] ?? "").split(delimiter).filter((one) => !one.includes("node_modules"));
    const env = {
      ...Object.fromEntries(inherited),
      PATH: path.join(delimiter),
      npm_config_loglevel: "error",
    };
    const stdio = ["ignore", "pipe", "pipe"] as const;
    this.#child = spawn("bash", ["-c", line], { cwd, env, detached: true, stdio: [...stdio] });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
        this.#heard();
      });
    }
    this.#ended = once(this.#child, "close").then(() => this.#heard());
  }

  async said(match: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = match.exec(this.#output);
      if (found) return found;
      if (this.#child.exitCode !== null) throw new Error(`it ended without ${match}: ${this.#output}`);
      await new Promise<void>((heard) => {
        this.#heard = heard;
      });
    }
  }

  /** Waits for its end, and answers all that it said. */
  async result(): Promise<{ readonly code: number | null; readonly output: string }> {
    await this.#ended;
    return { code: this.#child.exitCode, output: this.#output };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      process.kill(-this.#child.pid!, "SIGKILL");
    }
    await this.#ended;
  }
}

describe("README.md", () => {
  it("shows these commands and no others", () => {
    expect(commands).toEqual(Object.values(known));
  });

  it("speaks of npm scripts that there are", () => {
    const spoken = [...readme.matchAll(/npm run ([\w:-]+)/g)].map(([, name]) => name!);
    expect(Object.keys(manifest.scripts)).toEqual(expect.arrayContaining([...spoken, "start", "test"]));
  });

  it("needs of npm ci what the lock file has", () => {
    const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
      readonly packages: Readonly<Record<string, Manifest>>;
    };
    const { dependencies, devDependencies } = manifest;
    expect(lock.packages[""]).toMatchObject({ dependencies, devDependencies });
  });

  it("links to files that there are", () => {
    const links = [...readme.matchAll(/\]\(([^)#]+)[^)]*\)/g)].map(([, target]) => target!);
    const local = links.filter((target) => !/^[a-z]+:/.test(target));
    expect(local.filter((target) => !existsSync(join(root, target)))).toEqual([]);
  });
});

describe("with the sidecar of the first command running", () => {
  let cwd: string;
  let sidecar: Shell;
  let port = "";
  beforeAll(async () => {
    cwd = await makeProject();
    for (const name of ["src", "gen", "node_modules"]) await symlink(join(root, name), join(cwd, name));
    await copyFile(join(root, "package.json"), join(cwd, "package.json"));
    // `npm ci` has been done: these tests run.
    sidecar = new Shell(known.start.replace("npm ci && ", ""), cwd);
    await sidecar.said(/^Ready\.$/m);
    port = (await sidecar.said(/^ {2}http +\S+:(\d+)/m))[1]!;
  });
  afterAll(async () => {
    await sidecar?.[Symbol.asyncDispose]();
    await removeProject(cwd);
  });

  /** Another process may have the port on this machine; the screen says which it is then. */
  const shell = (line: string) => new Shell(line.replace(":3500/", `:${port}/`), cwd);
  const run = async (line: string) => {
    await using command = shell(line);
    return await command.result();
  };

  it("an event that is published appears where it is subscribed to", async () => {
    await using subscriber = shell(known.subscribe);
    await subscriber.said(/receiving orders/);
    expect((await run(known.publish)).code).toBe(0);
    await subscriber.said(/orders .*\{"total": 42\}/);
  });

  it("a value that was set is there, from the command line and with curl", async () => {
    expect((await run(known.set)).code).toBe(0);
    expect(await run(known.get)).toEqual({ code: 0, output: "hello" });
    const { code, output } = await run(known.curl);
    expect(code, "curl").toBe(0);
    const { item } = JSON.parse(output) as {
      readonly item: { readonly key: string; readonly value: string };
    };
    expect(item.key).toBe("greeting");
    expect(Buffer.from(item.value, "base64").toString()).toBe("hello");
  });
});
