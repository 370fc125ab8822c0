/** Changes of the YAML of a real process: what is noticed, what is refused, what is lost. */
import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { freePorts, makeProject, Outrider, outrider, removeProject } from "../outrider.ts";
import { component, Project, subscription } from "./project.ts";

const configuration = (spec: object) => `apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: config}
spec: ${JSON.stringify(spec)}
`;

const textOf = (value: Uint8Array) => Buffer.from(value).toString();

describe("a change of the YAML", () => {
  it("that has mistakes leaves everything as it was, and the log, a metric and metadata say so", async () => {
    const good = component("store", "state.in-memory") + subscription("orders", "pubsub", "orders", "o");
    await using project = await Project.start({ "a.yaml": good });
    await project.app.state.set({ component: "store", key: "k", value: Buffer.from("v") });
    const bad = `${component("store", "state.memory")}${component("b", "state.in-memory", { lost: "1" })}`;
    const { lastReload, components } = await project.refuse("a.yaml", bad);
    expect(lastReload!.mistakes).toEqual([
      expect.stringMatching(/a\.yaml:5:14 {2}Component "store" spec\.type: no component of type/),
      expect.stringMatching(
        /a\.yaml:10:\d+ {2}Component "b" spec\.metadata\[0\]\.name: unknown field "lost"/,
      ),
    ]);
    expect(components.map(({ name }) => name)).toEqual(["pubsub", "store"]);
    expect(textOf((await project.app.state.get({ component: "store", key: "k" })).item!.value)).toBe("v");
    using stream = project.app.subscribe([{ declared: "orders" }]);
    await stream.heard("opened");
    for (const mistake of lastReload!.mistakes) expect(project.sidecar.stderr).toContain(mistake);
    expect(project.sidecar.stderr).toMatch(/ERROR.*has mistakes; everything stays as it was/);
    expect(await project.metrics()).toMatch(/^outrider_config_last_reload_successful 0$/m);
    const dapr = await (await fetch(`http://127.0.0.1:${project.sidecar.httpPort}/v1.0/metadata`)).json();
    expect(dapr).toMatchObject({
      extended: {
        outriderRefusedChange: expect.stringMatching(/a\.yaml:5:14 {2}Component "store" spec\.type;/),
      },
    });
    const words = ["metadata", "--grpc-port", String(project.sidecar.grpcPort)];
    const told = await outrider(words, { cwd: project.directory });
    expect(told.stdout).toMatch(/The YAML has changed and is not in force:\n.*a\.yaml:5:14/);

    const after = await project.apply("a.yaml", good);
    expect(after.lastReload!.mistakes).toEqual([]);
    expect(await project.metrics()).toMatch(/^outrider_config_last_reload_successful 1$/m);
    // It is the same again, so what is in memory is still there.
    expect(textOf((await project.app.state.get({ component: "store", key: "k" })).item!.value)).toBe("v");
  });

  it("opens again only what is not the same, wherever it is written, and with {uuid} in it", async () => {
    const kept = component("kept", "state.in-memory", { keyPrefix: "{uuid}" });
    await using project = await Project.start({ "a.yaml": kept + component("gone", "state.in-memory") });
    const set = (name: string) =>
      project.app.state.set({ component: name, key: "k", value: Buffer.from(name) });
    const get = async (name: string) => {
      const { item } = await project.app.state.get({ component: name, key: "k" });
      return item && textOf(item.value);
    };
    await set("kept");
    await set("gone");
    const changed = component("gone", "state.in-memory", { keyPrefix: "none" });
    const { components } = await project.apply("a.yaml", `# first\n${changed}${kept}`);
    expect(components.map(({ name }) => name)).toEqual(["gone", "kept", "pubsub"]);
    expect(await get("kept")).toBe("kept");
    expect(await get("gone")).toBe(undefined);
  });

  it("of what cannot change while it runs is in the log, as a warning, and in metadata", async () => {
    const words = ["--config", "resources/config.yaml"];
    await using project = await Project.start({ "config.yaml": configuration({}) }, ...words);
    const { lastReload } = await project.apply(
      "config.yaml",
      configuration({ tracing: { samplingRate: "1" }, api: { denied: [{ name: "secrets" }] } }),
    );
    expect(lastReload).toMatchObject({ applied: true, needRestart: ["tracing", "api"] });
    expect(project.sidecar.stderr).toMatch(/WARN.*takes effect at the next start/);
  });

  it("reaches the sidecar through links: of a ConfigMap at once, of anything else after a while", async () => {
    await using project = await Project.start({}, "--hot-reload-reconcile-interval", "500ms");
    const revision = async (name: string, text: string) => {
      await mkdir(project.path(name));
      await writeFile(join(project.path(name), "a.yaml"), text);
      await symlink(name, project.path("..data_tmp"));
      await rename(project.path("..data_tmp"), project.path("..data"));
    };
    await revision("..1", component("one", "state.in-memory"));
    await symlink("..data/a.yaml", project.path("a.yaml"));
    const names = async () => Object.keys(await project.components());
    await expect.poll(names, { timeout: 20_000 }).toContain("one");
    await revision("..2", component("two", "state.in-memory"));
    await expect.poll(names, { timeout: 20_000 }).toContain("two");
    await writeFile(join(project.directory, "elsewhere.yaml"), component("three", "state.in-memory"));
    await symlink("../elsewhere.yaml", project.path("b.yaml"));
    await expect.poll(names, { timeout: 20_000 }).toContain("three");
    await writeFile(join(project.directory, "elsewhere.yaml"), component("four", "state.in-memory"));
    await expect.poll(names, { timeout: 20_000 }).toContain("four");
    await rm(project.path(""), { recursive: true });
    await expect
      .poll(() => project.metrics(), { timeout: 20_000 })
      .toMatch(/^outrider_config_last_reload_successful 0$/m);
    await mkdir(project.path(""));
    await expect.poll(names, { timeout: 20_000 }).toEqual(["pubsub", "state"]);
    await project.apply("c.yaml", component("five", "state.in-memory"));
  });
});

describe("SIGHUP", () => {
  it("has everything read again, also secrets and where files are not watched", async () => {
    const secrets = `---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: vault}
spec: {type: secretstores.local.file, metadata: [{name: secretsFile, value: secrets.json}]}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: store}
spec: {type: state.sqlite, metadata: [{name: keyPrefix, secretKeyRef: {name: prefix}}]}
auth: {secretStore: vault}
`;
    const off = configuration({ features: [{ name: "HotReload", enabled: false }] });
    await using project = await Project.start({ "config.yaml": off }, "--config", "resources/config.yaml");
    await writeFile(join(project.directory, "secrets.json"), '{"prefix": "none"}');
    await project.write("a.yaml", secrets);
    const hangUp = async () => {
      const before = (await project.metrics()).match(
        /^outrider_config_reloads_total\{outcome="applied"\} (\d+)/m,
      )![1];
      project.sidecar.kill("SIGHUP");
      await expect
        .poll(() => project.metrics(), { timeout: 20_000 })
        .toMatch(
          new RegExp(`^outrider_config_reloads_total\\{outcome="applied"\\} ${Number(before) + 1}$`, "m"),
        );
    };
    await hangUp();
    expect(await project.components()).toMatchObject({ store: "state.sqlite" });
    await project.app.state.set({ component: "store", key: "k", value: Buffer.from("1") });
    await writeFile(join(project.directory, "secrets.json"), '{"prefix": "name"}');
    await hangUp();
    // Another prefix: what was written under the old one is not found.
    expect((await project.app.state.get({ component: "store", key: "k" })).item).toBe(undefined);
    expect(project.sidecar.stderr).toMatch(/changed: \[\s*"Component store"/);
  });
});

describe("a component that is replaced or removed", () => {
  it("finishes the calls that are under way, and ends watches with a reason to watch again", async () => {
    await using project = await Project.start({ "a.yaml": component("store", "state.in-memory") });
    const { state } = project.app;
    await state.set({ component: "store", key: "k", value: Buffer.from("1") });
    const seen = Promise.withResolvers<void>();
    const watching = (async () => {
      const watch = state.watch({ component: "store", selector: { case: "key", value: "k" } });
      for await (const { changes } of watch) if (changes.length > 0) seen.resolve();
    })().catch((error: unknown) => error);
    await seen.promise;
    const more = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const writing = state.write(
      (async function* () {
        yield { part: { case: "begin" as const, value: { component: "store", key: "long" } } };
        yield { part: { case: "chunk" as const, value: Buffer.from("a") } };
        begun.resolve();
        await more.promise;
        yield { part: { case: "chunk" as const, value: Buffer.from("b") } };
      })(),
    );
    await begun.promise;
    await project.apply("a.yaml", component("store", "state.sqlite"));
    expect(String(await watching)).toMatch(/unavailable.*has been replaced or removed/);
    const closed = () => project.sidecar.stderr.includes("what was replaced or removed is closed");
    expect(closed()).toBe(false);
    more.resolve();
    expect((await writing).etag).not.toBe("");
    await expect.poll(closed, { timeout: 10_000 }).toBe(true);
    expect((await state.get({ component: "store", key: "long" })).item).toBe(undefined);
  });

  it("that cannot be opened is tried again, as at the start, and the rest serves", async () => {
    await using project = await Project.start({ "a.yaml": component("store", "state.in-memory") });
    const nowhere = component("gone", "state.redis", { redisHost: "127.0.0.1:1" });
    const { components } = await project.apply("b.yaml", nowhere);
    expect(components.find(({ name }) => name === "gone")).toMatchObject({
      statusMessage: expect.stringMatching(/./),
    });
    await project.app.state.set({ component: "store", key: "k", value: Buffer.from("1") });
    const ready = async () =>
      (await fetch(`http://127.0.0.1:${project.sidecar.httpPort}/healthz/ready`)).status;
    expect(await ready()).toBe(503);
    await project.apply("b.yaml", undefined);
    expect(await ready()).toBe(204);
  });

  it("is waited for at the start as what it is then, and keeps nobody from stopping", async () => {
    const nowhere = component("store", "state.redis", { redisHost: "127.0.0.1:1" });
    const there = component("store", "state.in-memory");
    const directory = await makeProject();
    await mkdir(join(directory, "resources"));
    await writeFile(join(directory, "resources", "a.yaml"), nowhere);
    const words = ["run", ...freePorts, "--resources-path", "resources"];
    await using changed = new Outrider(words, { cwd: directory });
    await using stopped = new Outrider(words, { cwd: directory });
    await stopped.said(/^Live\.$/m);
    const [, port] = await stopped.said(/^ {2}http +\S+:(\d+)/m);
    const url = `http://127.0.0.1:${port}/outrider.runtime.v1.RuntimeService/Shutdown`;
    await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
    expect(await stopped.ended).toMatchObject({ code: 0 });
    await changed.said(/^Live\.$/m);
    await writeFile(join(directory, "resources", "a.yaml"), there);
    await changed.said(/^Ready\.$/m);
    await removeProject(directory);
  });

  it("loses nothing when the process is killed in the middle of it", async () => {
    const settings = (age: string) => component("pubsub", "pubsub.sqlite", { retentionAge: age });
    await using project = await Project.start({ "pubsub.yaml": settings("1h") });
    const acknowledged = new Set<string>();
    const handled = new Set<string>();
    for (let life = 0; life < 3; life++) {
      using stream = project.app.subscribe([{ topic: "a", group: "g", maxInFlight: 4 }], (deliveries) => {
        for (const { event } of deliveries) handled.add(event!.id);
        setTimeout(() => stream.settle(deliveries), 2);
      });
      let going = true;
      const publishing = (async () => {
        while (going) {
          const { published } = await project.app.pubsub.publish({
            topic: "a",
            outgoing: { event: { data: Buffer.from("x") } },
          });
          acknowledged.add(published!.id);
        }
      })().catch(() => {});
      await project.apply("pubsub.yaml", settings(`${life + 2}h`));
      await project.write("pubsub.yaml", settings(`${life + 20}h`));
      const before = acknowledged.size;
      await expect.poll(() => acknowledged.size).toBeGreaterThan(before);
      await project.kill();
      going = false;
      await publishing;
      await project.startAgain();
    }
    using stream = project.app.subscribe([{ topic: "a", group: "g" }], (deliveries) => {
      for (const { event } of deliveries) handled.add(event!.id);
      stream.settle(deliveries);
    });
    const missing = () => [...acknowledged].filter((id) => !handled.has(id)).length;
    await expect.poll(missing, { timeout: 30_000 }).toBe(0);
    expect(acknowledged.size).toBeGreaterThan(10);
  });
});
