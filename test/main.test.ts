/** The process itself: how it starts, what it says, how it ends. */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { freePorts, makeProject, Outrider, outrider, removeProject, SidecarProcess } from "./outrider.ts";

let cwd: string;
beforeEach(async () => {
  cwd = await makeProject();
});
afterEach(() => removeProject(cwd));

describe("a sidecar", () => {
  it("says on one screen what it serves, where, with which components, and what to try", async () => {
    await using sidecar = await SidecarProcess.start({ cwd }, "--app-id", "orders");
    const screen = sidecar.stderr;
    expect(screen).toMatch(/^Outrider \d+\.\d+\.\d+ serves orders$/m);
    expect(screen).toMatch(/^ {2}grpc +127\.0\.0\.1:\d+/m);
    expect(screen).toMatch(/^ {2}http +127\.0\.0\.1:\d+/m);
    expect(screen).toMatch(/^ {2}state +state\.sqlite +by default$/m);
    expect(screen).toMatch(/^ {2}pubsub +pubsub\.sqlite +by default$/m);
    expect(screen).toContain(`data in ${join(cwd, ".outrider")}`);
    expect(screen).toContain(`curl -s http://127.0.0.1:${sidecar.httpPort}/`);
    expect(screen.trimEnd().split("\n").length).toBeLessThan(24);
    expect(sidecar.stdout).toBe("");
  });

  it("is ready when it says so, and serves HTTP and metrics where it says", async () => {
    await using sidecar = await SidecarProcess.start({ cwd });
    const ready = await fetch(`http://127.0.0.1:${sidecar.httpPort}/healthz/ready`);
    expect(ready.status).toBe(204);
    const metrics = await fetch(`http://127.0.0.1:${sidecar.metricsPort}/metrics`);
    expect(await metrics.text()).toContain("outrider_");
  });

  it("ends with 0 on SIGTERM and on SIGINT", async () => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      await using sidecar = await SidecarProcess.start({ cwd });
      sidecar.kill(signal);
      expect(await sidecar.ended).toEqual({ code: 0, signal: null });
    }
  });

  it("ends at once, with 1, on a second signal", async () => {
    await using sidecar = await SidecarProcess.start({ cwd }, "--grace", "60s");
    await using holder = await subscriber(cwd, sidecar);
    sidecar.kill("SIGTERM");
    await sidecar.said(/stopping/);
    await holder.said(/is stopping/);
    sidecar.kill("SIGTERM");
    expect(await sidecar.ended).toEqual({ code: 1, signal: null });
  });

  it("waits no longer than the grace period for what is in flight", async () => {
    await using sidecar = await SidecarProcess.start({ cwd }, "--grace", "1s");
    await using holder = await subscriber(cwd, sidecar);
    const startedAt = performance.now();
    sidecar.kill("SIGTERM");
    await holder.said(/is stopping/);
    expect(await sidecar.ended).toEqual({ code: 0, signal: null });
    expect(performance.now() - startedAt).toBeGreaterThan(900);
  });

  it("stops when a client asks for it", async () => {
    await using sidecar = await SidecarProcess.start({ cwd });
    const url = `http://127.0.0.1:${sidecar.httpPort}/outrider.runtime.v1.RuntimeService/Shutdown`;
    const answer = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    expect(answer.status).toBe(200);
    expect(await sidecar.ended).toEqual({ code: 0, signal: null });
  });

  it("says as one line of JSON where it serves, when logs are JSON", async () => {
    await using sidecar = new Outrider(["run", ...freePorts, "--log-as-json", "--app-id", "orders"], { cwd });
    const [line] = await sidecar.said(/^.*"msg":"ready".*$/m);
    expect(JSON.parse(line)).toMatchObject({
      level: "info",
      app_id: "orders",
      grpc_port: expect.any(Number),
      http_port: expect.any(Number),
      metrics_port: expect.any(Number),
    });
    for (const each of sidecar.stderr.trim().split("\n")) expect(() => JSON.parse(each)).not.toThrow();
  });

  it("is found by its id while it runs, and not after it", async () => {
    const folder = join(cwd, ".outrider", "sidecars");
    await using sidecar = await SidecarProcess.start({ cwd }, "--app-id", "orders");
    const [file] = await readdir(folder);
    expect(JSON.parse(await readFile(join(folder, file!), "utf8"))).toMatchObject({
      appId: "orders",
      pid: sidecar.pid,
      grpcPort: sidecar.grpcPort,
    });
    sidecar.kill("SIGTERM");
    await sidecar.ended;
    expect(await readdir(folder)).toEqual([]);
  });

  it("takes a free port when the usual one is taken, and says so", async () => {
    await using sidecar = new Outrider(["run", "--grpc-port", "0", "--metrics-port", "0"], { cwd });
    // Whether or not 3500 is free on this machine, two sidecars cannot both have it.
    await using other = new Outrider(["run", "--grpc-port", "0", "--metrics-port", "0"], { cwd });
    await Promise.all([sidecar.said(/Ready\./), other.said(/Ready\./)]);
    expect(sidecar.stderr + other.stderr).toContain("(3500 is taken)");
  });

  it("ends with 1 when a port that was asked for is taken, and leaves nothing running", async () => {
    await using taken = await listener(0);
    const words = ["run", ...freePorts, "--http-port", String(taken.port)];
    const { code, stderr } = await outrider(words, { cwd });
    expect(code).toBe(1);
    expect(stderr).toContain(`HTTP port ${taken.port}: something else listens on`);
  });

  it("ends with 2 when the configuration is wrong, with every mistake at once", async () => {
    await writeFile(
      join(cwd, "a.yaml"),
      component("state", "state.nosuch") + component("other", "pubsub.in-memory", "  wrong: field\n"),
    );
    const { code, stderr } = await outrider(["run", ...freePorts, "--resources", cwd], { cwd });
    expect(code).toBe(2);
    expect(stderr).toContain("state.nosuch");
    expect(stderr).toContain("wrong");
    expect(stderr).toContain("2 mistakes");
    expect(stderr).not.toContain("serves");
  });

  it("uses the components that the YAML declares, and says from which file", async () => {
    await writeFile(join(cwd, "a.yaml"), component("mine", "state.in-memory"));
    await using sidecar = await SidecarProcess.start({ cwd }, "-d", cwd);
    expect(sidecar.stderr).toMatch(/^ {2}mine +state\.in-memory +\S*a\.yaml:1$/m);
    expect(sidecar.stderr).toMatch(/^ {2}pubsub +pubsub\.sqlite +by default$/m);
  });

  it("lives, and is not ready, while a component that must be there cannot be opened, and says when it is", async () => {
    await writeFile(join(cwd, "file"), "");
    await using sidecar = new Outrider(["run", ...freePorts, "--data-dir", join(cwd, "file")], { cwd });
    await sidecar.said(/^Live\.$/m);
    const port = /http +127\.0\.0\.1:(\d+)/.exec(sidecar.stderr)![1];
    expect((await fetch(`http://127.0.0.1:${port}/healthz/ready`)).status).toBe(503);
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(204);
    expect(sidecar.stderr).not.toMatch(/^Ready\.$/m);
    await rm(join(cwd, "file"));
    await sidecar.said(/^Ready\.$/m);
    expect((await fetch(`http://127.0.0.1:${port}/healthz/ready`)).status).toBe(204);
    sidecar.kill("SIGTERM");
    expect(await sidecar.ended).toEqual({ code: 0, signal: null });
  });

  it("lets nobody in without a token, when one is set", async () => {
    const env = { OUTRIDER_API_TOKEN: "s3cret-token" };
    await using sidecar = await SidecarProcess.start({ cwd, env });
    const target = ["--grpc-port", String(sidecar.grpcPort)];
    const refused = await outrider(["state", "list", ...target], { cwd });
    expect(refused).toMatchObject({ code: 1, stdout: "" });
    expect(refused.stderr).toContain("UNAUTHENTICATED");
    expect(await outrider(["state", "list", ...target], { cwd, env })).toMatchObject({ code: 0 });
    expect(sidecar.stderr).not.toContain("s3cret-token");
  });

  it("shares its state and events with every sidecar of the project", async () => {
    await using one = await SidecarProcess.start({ cwd }, "--app-id", "app");
    await using two = await SidecarProcess.start({ cwd }, "--app-id", "app");
    const [first, second] = [one, two].map(({ grpcPort }) => ["--grpc-port", String(grpcPort)] as const);
    await outrider(["state", "set", "greeting", "hello", ...first!], { cwd });
    expect(await outrider(["state", "get", "greeting", ...second!], { cwd })).toMatchObject({
      code: 0,
      stdout: "hello",
    });
    await using subscriber = new Outrider(["subscribe", "orders", "--max", "1", "--json", ...second!], {
      cwd,
    });
    await subscriber.said(/receiving orders/);
    await outrider(["publish", "orders", '{"total":42}', ...first!], { cwd });
    expect(await subscriber.ended).toMatchObject({ code: 0 });
    expect(JSON.parse(subscriber.stdout)).toMatchObject({ topic: "orders", data: { total: 42 } });
  });
});

/** Somebody who holds an event and does not settle it. */
async function subscriber(directory: string, { grpcPort }: SidecarProcess): Promise<Outrider> {
  const target = ["--grpc-port", String(grpcPort)];
  await outrider(["publish", "held", "x", ...target], { cwd: directory });
  const holder = new Outrider(["subscribe", "held", "--hold", ...target], { cwd: directory });
  await holder.said(/held/, "stdout");
  return holder;
}

async function listener(port: number) {
  const server = createServer().listen(port, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  return {
    port: (server.address() as { port: number }).port,
    [Symbol.asyncDispose]: () => new Promise<void>((done) => server.close(() => done())),
  };
}

function component(name: string, type: string, more = ""): string {
  return `apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: { name: ${name} }\nspec:\n  type: ${type}\n${more}---\n`;
}
