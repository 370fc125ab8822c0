/** Dead letters, looked at and sent back by processes. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeProject, Outrider, outrider, removeProject, SidecarProcess } from "../outrider.ts";

let cwd: string;
let sidecar: SidecarProcess;
beforeAll(async () => {
  cwd = await makeProject();
  sidecar = await SidecarProcess.start({ cwd }, "--app-id", "orders");
});
afterAll(async () => {
  await sidecar?.[Symbol.asyncDispose]();
  await removeProject(cwd);
});

const run = (...words: readonly string[]) => outrider(words, { cwd });
const pipe = (input: string, ...words: readonly string[]) => outrider(words, { cwd, input });
const json = (text: string) =>
  text
    .trim()
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe("outrider deadletter", () => {
  const rejecter = (topic: string, count: number) =>
    new Outrider(["subscribe", topic, "--reject", "--max", String(count), "--dead-letter", `${topic}-dead`], {
      cwd,
    });
  const reject = (topic: string, count: number) => rejecter(topic, count).ended;

  it("lists why, when, how often and from where, and settles nothing", async () => {
    await run("publish", "sad", '{"n":1}');
    await reject("sad", 1);
    for (const _ of [1, 2]) {
      const { stdout } = await run("deadletter", "list", "sad-dead", "--json");
      expect(json(stdout)).toMatchObject([
        {
          data: { n: 1 },
          deadletterreason: "rejected",
          deadlettertopic: "sad",
          deadlettergroup: "orders",
          deadletterattempts: "1",
          deadlettertime: expect.stringMatching(/^\d{4}-.*Z$/),
        },
      ]);
    }
    const { stdout } = await run("deadletter", "list", "sad-dead");
    expect(stdout).toMatch(/^\S+Z rejected attempts=1 topic=sad group=orders id=\S+ \{"n":1\}\n$/);
  });

  it("sends events back to the group that gave them up, once", async () => {
    // Both groups are there before the events: what the only group has settled is removed.
    await using other = new Outrider(["subscribe", "again", "--group", "other", "--max", "2"], { cwd });
    await using rejecting = rejecter("again", 2);
    await Promise.all([other.said(/receiving/), rejecting.said(/receiving/)]);
    await run("publish", "again", "one", "--extension", "tenant=acme");
    await run("publish", "again", "two");
    await Promise.all([other.ended, rejecting.ended]);
    const redriven = await run("deadletter", "redrive", "again-dead", "--json");
    expect(json(redriven.stdout)).toEqual([{ topic: "again-dead", redriven: 2, skipped: 0, failed: 0 }]);
    const [one, two] = json((await run("subscribe", "again", "--max", "2", "--json")).stdout);
    expect(one).toMatchObject({ data: "one", tenant: "acme", attempt: 1 });
    expect(two).toMatchObject({ data: "two" });
    expect(Object.keys(one!).filter((name) => name.startsWith("deadletter"))).toEqual([]);
    // A group that handled them does not get them again: only what is published now.
    await run("publish", "again", "three");
    const { stdout } = await run("subscribe", "again", "--group", "other", "--max", "1", "--json");
    expect(json(stdout)).toMatchObject([{ data: "three" }]);
    expect((await run("deadletter", "redrive", "again-dead")).stdout).toMatch(/^0 sent back/);
  });

  it("lists as many as were asked for, and nothing of a topic that is empty", async () => {
    await pipe("1\n2\n3\n", "publish", "some", "--lines", "-");
    await reject("some", 3);
    const listed = async (...words: readonly string[]) =>
      json((await run("deadletter", "list", "some-dead", "--json", ...words)).stdout).map(({ data }) => data);
    expect(await listed("--max", "2")).toEqual([1, 2]);
    expect(await listed()).toEqual([1, 2, 3]);
    expect(await run("deadletter", "list", "nothing-here")).toMatchObject({ code: 0, stdout: "" });
  });

  it("sends back as many as were asked for, and leaves the rest where they are, as they are", async () => {
    await pipe("1\n2\n3\n", "publish", "few", "--lines", "-");
    await reject("few", 3);
    const redriven = await run("deadletter", "redrive", "few-dead", "--max", "2", "--json");
    expect(json(redriven.stdout)).toMatchObject([{ redriven: 2, failed: 0 }]);
    const back = json((await run("subscribe", "few", "--max", "2", "--json")).stdout);
    expect(back.map(({ data }) => data)).toEqual([1, 2]);
    const left = json((await run("deadletter", "list", "few-dead", "--json")).stdout);
    expect(left).toMatchObject([{ data: 3, attempt: 1, deadletterattempts: "1" }]);
    expect((await run("deadletter", "redrive", "few-dead")).stdout).toMatch(/^1 sent back/);
    expect((await run("deadletter", "list", "few-dead")).stdout).toBe("");
  });

  it("lists what is given up again after it was sent back, and sends it back again", async () => {
    await run("publish", "twice", "x");
    for (const _ of [1, 2]) {
      await reject("twice", 1);
      const { stdout } = await run("deadletter", "list", "twice-dead", "--json");
      expect(json(stdout)).toMatchObject([
        { data: "x", deadlettertopic: "twice", deadletterreason: "rejected" },
      ]);
      expect((await run("deadletter", "redrive", "twice-dead")).stdout).toMatch(/^1 sent back/);
    }
    expect(json((await run("subscribe", "twice", "--max", "1", "--json")).stdout)).toMatchObject([
      { data: "x" },
    ]);
  });

  it("passes over what nobody gave up", async () => {
    await run("publish", "stray-dead", "published here by somebody");
    const { code, stdout } = await run("deadletter", "redrive", "stray-dead");
    expect({ code, stdout }).toEqual({ code: 0, stdout: "0 sent back, 1 were no dead letters, 0 failed\n" });
  });
});
