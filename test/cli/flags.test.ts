/** What the flags of the commands do that talk to a sidecar, and how they look on a terminal. */
import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeProject, Outrider, outrider, removeProject, SidecarProcess } from "../outrider.ts";

const main = resolve(import.meta.dirname, "../../src/main.ts");

let cwd: string;
let sidecar: SidecarProcess;
beforeAll(async () => {
  cwd = await makeProject();
  const memory = "apiVersion: dapr.io/v1alpha1\nkind: Component\n";
  await writeFile(
    join(cwd, "components.yaml"),
    `${memory}metadata: { name: state }\nspec: { type: state.sqlite }\n---\n` +
      `${memory}metadata: { name: other }\nspec: { type: state.in-memory }\n---\n` +
      `${memory}metadata: { name: pubsub }\nspec: { type: pubsub.sqlite }\n---\n` +
      `${memory}metadata: { name: bus }\nspec: { type: pubsub.in-memory }\n`,
  );
  sidecar = await SidecarProcess.start({ cwd }, "--app-id", "orders", "-d", "components.yaml");
});
afterAll(async () => {
  await sidecar?.[Symbol.asyncDispose]();
  await removeProject(cwd);
});

const run = (...words: readonly string[]) => outrider(words, { cwd });
const json = (text: string) =>
  text
    .trim()
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const receive = async (topic: string, ...words: readonly string[]) =>
  json((await run("subscribe", topic, "--json", ...words)).stdout);

describe("--component", () => {
  it("says which of several is meant, for state and for events", async () => {
    await run("state", "set", "k", "there", "--component", "other");
    expect((await run("state", "get", "k")).code).toBe(1);
    expect((await run("state", "get", "k", "--component", "other")).stdout).toBe("there");
    await run("publish", "t", "there", "--component", "bus");
    expect(await receive("t", "--max", "1", "--component", "bus")).toMatchObject([{ data: "there" }]);
  });

  it("that does not exist is told by its name", async () => {
    for (const words of [
      ["state", "get", "k"],
      ["publish", "t", "x"],
      ["subscribe", "t"],
    ]) {
      const { code, stderr } = await run(...words, "--component", "nosuch");
      expect(code, words[0]!).toBe(1);
      expect(stderr, words[0]!).toMatch(/^outrider: COMPONENT_NOT_FOUND: .*"nosuch"/);
    }
  });
});

describe("outrider publish", () => {
  it("with --file takes the payload from there, with its bytes as they are", async () => {
    await writeFile(join(cwd, "payload"), Buffer.from([0, 255, 10]));
    await run("publish", "file", "--file", "payload", "--content-type", "application/octet-stream");
    expect(await receive("file", "--max", "1")).toMatchObject([
      { datacontenttype: "application/octet-stream", data_base64: "AP8K" },
    ]);
    expect((await run("publish", "file", "--file", "no-such-file")).code).toBe(1);
  });

  it("with --lines takes standard input when it is told nothing else, and says what it cannot read", async () => {
    const { code, stdout } = await outrider(["publish", "piped", "--lines"], { cwd, input: "a\nb\n" });
    expect({ code, stdout }).toEqual({ code: 0, stdout: "2 events published to piped\n" });
    const unreadable = await run("publish", "piped", "--lines", "--file", "missing.txt");
    expect(unreadable.code).toBe(1);
    expect(unreadable.stderr).toMatch(/^outrider: missing\.txt cannot be read/m);
  });

  it("with --raw sends no envelope", async () => {
    await run("publish", "raw", "payload", "--raw", "--header", "h=1");
    const [event] = await receive("raw", "--max", "1");
    expect(event).toMatchObject({ data: "payload", topic: "raw" });
    expect(event).not.toHaveProperty("specversion");
  });

  it("with --delay or --at has the event enter its topic later, and not before", async () => {
    const startedAtMs = Date.now();
    await run("publish", "later", "second", "--delay", "6s");
    await run("publish", "later", "never here", "--at", "2090-01-01T00:00:00Z");
    await run("publish", "later", "first");
    const events = await receive("later", "--max", "2");
    expect(events.map(({ data }) => data)).toEqual(["first", "second"]);
    expect(Date.now() - startedAtMs).toBeGreaterThanOrEqual(6000);
  });

  it("with --ttl has an event end that nobody took in time", async () => {
    await run("publish", "short", "gone", "--ttl", "1ms");
    await run("publish", "short", "stays", "--ttl", "1h");
    expect(await receive("short", "--max", "1")).toMatchObject([{ data: "stays" }]);
  });
});

describe("outrider subscribe", () => {
  it("with --ack acknowledges what it prints, and with --reject gives it up", async () => {
    await run("publish", "outcomes", "one");
    expect(await receive("outcomes", "--max", "1", "--ack")).toMatchObject([{ data: "one", attempt: 1 }]);
    await run("publish", "outcomes", "two");
    expect(await receive("outcomes", "--max", "1", "--reject")).toMatchObject([{ data: "two" }]);
    await run("publish", "outcomes", "three");
    expect(await receive("outcomes", "--max", "1")).toMatchObject([{ data: "three", attempt: 1 }]);
  });

  it("with --broadcast gets everything from now on, whatever groups there are", async () => {
    await using one = new Outrider(["subscribe", "all", "--broadcast", "--max", "1"], { cwd });
    await using two = new Outrider(["subscribe", "all", "--broadcast", "--max", "1"], { cwd });
    await Promise.all([one.said(/receiving/), two.said(/receiving/)]);
    await run("publish", "all", "everybody");
    for (const each of [one, two]) {
      expect((await each.ended).code).toBe(0);
      expect(each.stdout).toContain("everybody");
    }
  });

  it("with --ordered has one event of a key at a time", async () => {
    for (const data of ["a1", "a2"]) await run("publish", "keys", data, "--key", "a");
    await run("publish", "keys", "b1", "--key", "b");
    await using holder = new Outrider(["subscribe", "keys", "--ordered", "--hold", "--json"], { cwd });
    await holder.said(/"b1"/, "stdout");
    expect(
      json(holder.stdout)
        .map(({ data }) => data)
        .toSorted(),
    ).toEqual(["a1", "b1"]);
  });

  it("ends well when nobody reads its output any more, and leaves to others what it could not print", async () => {
    const lines = Array.from({ length: 2000 }, (_, index) => `${index} ${"x".repeat(200)}\n`).join("");
    await outrider(["publish", "head", "--lines", "-"], { cwd, input: lines });
    const line = `"${process.execPath}" "${main}" subscribe head --json | head -1; echo "\${PIPESTATUS[0]}"`;
    const { stdout } = spawnSync("bash", ["-c", line], { cwd, encoding: "utf8", timeout: 20_000 });
    const [first, code] = stdout.split("\n");
    expect(JSON.parse(first!)).toMatchObject({ data: expect.stringMatching(/^0 x/) });
    expect(code).toBe("0");
    expect(await receive("head", "--max", "1")).toMatchObject([{ topic: "head" }]);
  });
});

describe("a command whose output cannot be written", () => {
  it("says so, and ends with 1", async () => {
    const line = `"${process.execPath}" "${main}" publish unwritten x >/dev/full`;
    const { status, stderr } = spawnSync("sh", ["-c", line], { cwd, encoding: "utf8", timeout: 20_000 });
    expect(status).toBe(1);
    expect(stderr).toContain("standard output cannot be written: ENOSPC");
  });
});

describe("outrider state set", () => {
  it("with --ttl has the item end by itself", async () => {
    await run("state", "set", "short", "x", "--ttl", "300ms");
    await expect.poll(async () => (await run("state", "get", "short")).code, { timeout: 5000 }).toBe(1);
  });
});

const hasScript = spawnSync("script", ["--version"]).status === 0;
if (!hasScript) process.stdout.write("colours are not tested: there is no program `script`\n");

describe.skipIf(!hasScript)("colours", () => {
  const escapeSequence = "\u001b[";
  /** Runs a command on a terminal. */
  const onTerminal = (words: string, env: Record<string, string> = {}) => {
    const line = `'${process.execPath}' '${main}' ${words}`;
    const options = { cwd, encoding: "utf8", timeout: 20_000 } as const;
    const { NO_COLOR: _, ...rest } = process.env;
    return spawnSync("script", ["-qec", line, "/dev/null"], {
      ...options,
      env: { ...rest, TERM: "xterm", ...env },
    }).stdout;
  };

  it("are there on a terminal, unless somebody wants none, and never elsewhere", async () => {
    expect(onTerminal("metadata")).toContain(escapeSequence);
    expect(onTerminal("metadata", { NO_COLOR: "1" })).not.toContain(escapeSequence);
    expect(onTerminal("metadata", { TERM: "dumb" })).not.toContain(escapeSequence);
    expect(onTerminal("metadata --json")).not.toContain(escapeSequence);
    expect((await run("metadata")).stdout).not.toContain(escapeSequence);
  });
});
