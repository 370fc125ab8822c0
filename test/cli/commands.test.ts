/** The commands that talk to a running sidecar, as processes. */
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
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
const pipe = (input: string | Uint8Array, ...words: readonly string[]) => outrider(words, { cwd, input });
const json = (text: string) =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe("outrider state", () => {
  it("prints a value as it was given", async () => {
    expect((await run("state", "set", "plain", "hello")).code).toBe(0);
    expect(await run("state", "get", "plain")).toMatchObject({ code: 0, stdout: "hello" });
  });

  it("takes a value from a file and from standard input, and gives all of the item as JSON", async () => {
    await writeFile(join(cwd, "value.json"), '{"a":1}');
    await run("state", "set", "file", "--file", "value.json", "--metadata", "by=me");
    await pipe("from stdin\n", "state", "set", "stdin", "-");
    const [file] = json((await run("state", "get", "file", "--json")).stdout);
    expect(file).toMatchObject({
      key: "file",
      contentType: "application/json",
      value: { a: 1 },
      metadata: { by: "me" },
    });
    expect((await run("state", "get", "stdin")).stdout).toBe("from stdin\n");
  });

  it("writes and reads a value of any size", async () => {
    const value = randomBytes(9_000_000);
    await writeFile(join(cwd, "large"), value);
    expect((await run("state", "set", "large", "-f", "large")).code).toBe(0);
    expect((await run("state", "get", "large", "-o", "copy")).code).toBe(0);
    expect((await readFile(join(cwd, "copy"))).equals(value)).toBe(true);
    const [item] = json((await run("state", "get", "large", "--json")).stdout);
    expect(item).toMatchObject({ valueBytes: 9_000_000, valueBase64: value.toString("base64") });
  });

  it("writes only on its condition, and says which reason it failed for", async () => {
    const { stdout: etag } = await run("state", "set", "once", "1", "--absent");
    const again = await run("state", "set", "once", "2", "--absent");
    expect(again).toMatchObject({ code: 1, stdout: "" });
    expect(again.stderr).toMatch(/^outrider: ETAG_MISMATCH: /);
    expect((await run("state", "set", "once", "2", "--etag", etag.trim())).code).toBe(0);
    expect((await run("state", "delete", "once", "--etag", etag.trim())).code).toBe(1);
    expect((await run("state", "delete", "once")).code).toBe(0);
  });

  it("ends with 1 and prints nothing when there is no such item", async () => {
    const { code, stdout, stderr } = await run("state", "get", "missing");
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toBe('outrider: there is no item "missing"\n');
  });

  it("lists keys by prefix in their order, and items as lines of JSON", async () => {
    for (const key of ["list/b", "list/a", "lisp"]) await run("state", "set", key, key);
    expect((await run("state", "list", "list/")).stdout).toBe("list/a\nlist/b\n");
    expect((await run("state", "list", "list/", "--max", "1")).stdout).toBe("list/a\n");
    const items = json((await run("state", "list", "list/", "--json", "--values")).stdout);
    expect(items).toMatchObject([
      { key: "list/a", value: "list/a" },
      { key: "list/b", value: "list/b" },
    ]);
  });

  it("watches what is there, then what changes", async () => {
    await run("state", "set", "watch/a", "1");
    await using watch = new Outrider(["state", "watch", "--prefix", "watch/", "--max", "3", "--json"], {
      cwd,
    });
    await watch.said(/watch\/a/, "stdout");
    await run("state", "set", "watch/b", "2");
    await watch.said(/watch\/b/, "stdout");
    await run("state", "delete", "watch/a");
    expect((await watch.ended).code).toBe(0);
    expect(json(watch.stdout)).toMatchObject([
      { change: "set", key: "watch/a", value: 1 },
      { change: "set", key: "watch/b", value: 2 },
      { change: "delete", key: "watch/a" },
    ]);
  });

  it("leaves a watch in peace on SIGINT", async () => {
    await using watch = new Outrider(["state", "watch", "plain"], { cwd });
    await watch.said(/plain/, "stdout");
    watch.kill("SIGINT");
    expect(await watch.ended).toEqual({ code: 0, signal: null });
    expect(watch.stderr).toBe("");
  });
});

describe("outrider publish and subscribe", () => {
  it("carry an event with everything that was said of it", async () => {
    const published = await run(
      ..."publish full {} --type com.example.paid --source /shop --subject 42 --id e1 --key k --json".split(
        " ",
      ),
      ..."--extension tenant=acme --header trace=off --ttl 1h --content-type application/json".split(" "),
    );
    expect(json(published.stdout)).toMatchObject([{ topic: "full", id: "e1" }]);
    const { stdout } = await run("subscribe", "full", "--max", "1", "--json");
    expect(json(stdout)).toMatchObject([
      {
        specversion: "1.0",
        id: "e1",
        type: "com.example.paid",
        source: "/shop",
        subject: "42",
        tenant: "acme",
        datacontenttype: "application/json",
        data: {},
        topic: "full",
        partitionkey: "k",
        attempt: 1,
      },
    ]);
  });

  it("print JSON with every digit, as it was published and stored", async () => {
    const text = '{"n":12345678901234567890,"m":1.50,"2":0,"1":0}';
    await run("publish", "digits", text);
    expect((await run("subscribe", "digits", "--max", "1", "--json")).stdout).toContain(`"data":${text}}\n`);
    await run("state", "set", "digits", text);
    expect((await run("state", "get", "digits", "--json")).stdout).toContain(`"value":${text}}\n`);
    const listed = await run("state", "list", "digits", "--values", "--json");
    expect(listed.stdout).toContain(`"value":${text}}\n`);
  });

  it("print one line for people", async () => {
    await run("publish", "human", '{"total":42}', "--type", "order.paid", "--key", "k1");
    const { stdout, stderr } = await run("subscribe", "human", "--max", "1");
    expect(stdout).toMatch(/^\d\d:\d\d:\d\d\.\d{3} human order\.paid key=k1 \{"total":42\}\n$/);
    expect(stderr).toBe("outrider: receiving human\n");
  });

  it("let no data command the terminal", async () => {
    await pipe("\u001b[31mred\u0007", "publish", "controls", "-");
    const { stdout } = await run("subscribe", "controls", "--max", "1");
    expect(stdout).toContain("[31mred");
    expect(stdout).not.toMatch(/(?!\n)\p{Cc}/u);
  });

  it("publish each line by itself, in order, and tell how many were acknowledged", async () => {
    const lines = Array.from({ length: 2500 }, (_, index) => `{"n":${index}}`);
    const published = await pipe(`${lines.join("\n")}\n\n`, "publish", "many", "--lines", "-");
    expect(published).toMatchObject({ code: 0, stdout: "2500 events published to many\n" });
    await using subscriber = new Outrider(["subscribe", "many", "--json"], { cwd });
    await subscriber.said(/"n":2499\}/, "stdout");
    subscriber.kill("SIGINT");
    expect((await subscriber.ended).code).toBe(0);
    expect(json(subscriber.stdout).map(({ data }) => (data as { n: number }).n)).toEqual(
      lines.map((_, n) => n),
    );
    expect(json((await pipe("", "publish", "none", "--lines", "-", "--json")).stdout)).toEqual([
      { topic: "none", acknowledged: 0, failed: 0 },
    ]);
  });

  it("tell of every line that could not be published, and end with 1", async () => {
    const { code, stdout, stderr } = await pipe(
      "a\nb\n",
      "publish",
      "bad",
      "--lines",
      "-",
      "--extension",
      "NOT_OK=1",
    );
    expect(code).toBe(1);
    expect(stdout).toBe("0 events published to bad\n");
    expect(stderr).toContain("event 2: INVALID_REQUEST");
  });

  it("take exactly as many events as were asked for, and leave the rest to the next", async () => {
    for (const n of ["1", "2", "3"]) await run("publish", "some", n);
    const first = json((await run("subscribe", "some", "--max", "2", "--json")).stdout);
    const second = json((await run("subscribe", "some", "--max", "1", "--json")).stdout);
    expect(first.map(({ data }) => data)).toEqual([1, 2]);
    expect(second).toMatchObject([{ data: 3, attempt: 1 }]);
  });

  it("receive several topics over one stream", async () => {
    await run("publish", "left", "l");
    await run("publish", "right", "r");
    const { stdout } = await run("subscribe", "left", "right", "--max", "2", "--json");
    expect(
      json(stdout)
        .map(({ topic }) => topic)
        .toSorted(),
    ).toEqual(["left", "right"]);
  });

  it("deliver again what was held, also by somebody who was killed, and name events by their routes", async () => {
    await run("publish", "held", "x", "--type", "big");
    await using holder = new Outrider(["subscribe", "held", "--hold"], { cwd });
    await holder.said(/held big/, "stdout");
    holder.kill("SIGINT");
    expect((await holder.ended).code).toBe(0);
    await using killed = new Outrider(["subscribe", "held", "--hold"], { cwd });
    await killed.said(/attempt=2/, "stdout");
    killed.kill("SIGKILL");
    await killed.ended;
    const route = 'large=event.type == "big"';
    const { stdout } = await run("subscribe", "held", "--max", "1", "--json", "--route", route);
    expect(json(stdout)).toMatchObject([{ data: "x", attempt: 3, route: "large" }]);
  });

  it("start where they are told", async () => {
    const [one] = json((await run("publish", "places", "one", "--json")).stdout);
    await run("publish", "places", "two");
    const from = (start: string, group: string) =>
      run("subscribe", "places", "--max", "1", "--json", "--group", group, "--from", start);
    // The first is kept for a group that begins with it and has not settled it.
    await using keeper = new Outrider(["subscribe", "places", "--hold", "--group", "keeper"], { cwd });
    await keeper.said(/one/, "stdout");
    expect(json((await from("earliest", "g1")).stdout)).toMatchObject([{ data: "one" }]);
    expect(json((await from(String(one!["position"]), "g2")).stdout)).toMatchObject([{ data: "two" }]);
    expect(json((await from("2020-01-01", "g3")).stdout)).toMatchObject([{ data: "one" }]);
  });

  it("refuse a subscription that makes no sense, with the reason", async () => {
    const { code, stderr } = await run("subscribe", "orders", "--route", "bad=event.type ==");
    expect(code).toBe(1);
    expect(stderr).toMatch(/^outrider: INVALID_REQUEST: orders: /);
  });

  it("come back when the sidecar does", async () => {
    const project = await makeProject();
    await using first = await SidecarProcess.start({ cwd: project });
    const target = ["--grpc-port", String(first.grpcPort)];
    await using subscriber = new Outrider(["subscribe", "orders", "--json", ...target], { cwd: project });
    await subscriber.said(/receiving orders/);
    first.kill("SIGKILL");
    await subscriber.said(/went away/);
    await using second = new Outrider(["run", "--http-port", "0", "--metrics-port", "0", ...target], {
      cwd: project,
    });
    await second.said(/^Ready\.$/m);
    await outrider(["publish", "orders", "again", ...target], { cwd: project });
    await subscriber.said(/again/, "stdout");
    second.kill("SIGTERM");
    expect((await second.ended).code).toBe(0);
    await subscriber.said(/is stopping/);
    subscriber.kill("SIGINT");
    expect((await subscriber.ended).code).toBe(0);
    await removeProject(project);
  });
});

describe("a command", () => {
  it("finds the only sidecar of the project, or the one of an application", async () => {
    const { stdout } = await run("metadata", "--json");
    expect(json(stdout)).toMatchObject([
      {
        appId: "orders",
        ports: [{ name: "grpc", port: sidecar.grpcPort }, { name: "http" }, { name: "metrics" }],
        components: [
          { name: "pubsub", type: "pubsub.sqlite", status: "ready" },
          { name: "state", type: "state.sqlite", status: "ready" },
        ],
        dataDirectory: join(cwd, ".outrider"),
      },
    ]);
    await using another = await SidecarProcess.start({ cwd }, "--app-id", "shipping");
    const ambiguous = await run("metadata");
    expect(ambiguous.code).toBe(2);
    expect(ambiguous.stderr).toContain(
      "several sidecars run here: choose one with --app-id (orders, shipping)",
    );
    expect((await run("metadata", "--app-id", "shipping")).stdout).toMatch(/^shipping {2}outrider /);
    expect((await run("metadata", "--app-id", "billing")).stderr).toContain('no sidecar of "billing" runs');
    const env = { OUTRIDER_GRPC_PORT: String(another.grpcPort) };
    expect((await outrider(["metadata"], { cwd, env })).stdout).toMatch(/^shipping /);
  });

  it("says so in one line when no sidecar answers", async () => {
    const { code, stderr } = await run("metadata", "--grpc-port", "1");
    expect(code).toBe(1);
    expect(stderr).toBe('outrider: no sidecar answers at 127.0.0.1:1; "outrider run" starts one\n');
  });

  it("tells of open subscriptions in the metadata", async () => {
    await using subscriber = new Outrider(["subscribe", "seen", "--hold"], { cwd });
    await subscriber.said(/receiving/);
    await run("publish", "seen", "x");
    await subscriber.said(/seen/, "stdout");
    const [answer] = json((await run("metadata", "--json")).stdout);
    expect(answer!["subscriptions"]).toMatchObject([
      {
        component: "pubsub",
        topic: "seen",
        group: "orders",
        streams: 1,
        inFlight: 1,
        maxInFlight: 256,
        lag: 1,
      },
    ]);
    expect(answer!["subscribeStreams"]).toBe(1);
  });

  it("that is called in a way that makes no sense ends with 2 and says what was expected", async () => {
    for (const [words, expected] of [
      [["publsh"], "Did you mean publish?"],
      [["publish"], "missing required argument 'topic'"],
      [["publish", "orders"], "no data: give DATA, --file, or - for standard input"],
      [["publish", "orders", "x", "--delay", "1s", "--at", "2030-01-01"], "cannot be used with"],
      [["publish", "orders", "x", "--tpye", "y"], "Did you mean --type?"],
      [["state", "watch"], "give KEY or --prefix"],
      [["state", "set", "k", "v", "--absent", "--etag", "1"], "cannot be used with"],
      [["subscribe", "orders", "--max", "0"], "1 or more"],
      [["completion", "tcsh"], "bash, zsh, fish"],
    ] as const) {
      const { code, stdout, stderr } = await run(...words);
      expect({ code, stdout }, words.join(" ")).toEqual({ code: 2, stdout: "" });
      expect(stderr, words.join(" ")).toContain(expected);
    }
  });
});
