/** An application beside its sidecar, and the flags of `outrider run`. */
import { writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { freePorts, makeProject, Outrider, outrider, removeProject } from "../outrider.ts";
import { freePorts as freePort } from "../servers/ports.ts";

let cwd: string;
beforeEach(async () => {
  cwd = await makeProject();
});
afterEach(() => removeProject(cwd));

const node = process.execPath;
/** A run of an application that is a program in JavaScript. */
const running = (script: string, ...flags: readonly string[]) =>
  ["run", ...freePorts, "--app-id", "orders", ...flags, "--", node, "-e", script] as const;

describe("an application beside the sidecar", () => {
  it("has its output on ours, each line with its id, and its exit code passed on", async () => {
    const script =
      'console.log("one\\ntwo"); console.error("three"); process.stdout.write("four"); process.exitCode = 7';
    const { code, stdout, stderr } = await outrider(running(script), { cwd });
    expect(code).toBe(7);
    expect(stdout).toBe("[orders] one\n[orders] two\n[orders] four\n");
    expect(stderr).toMatch(/^\[orders\] three$/m);
  });

  it("ends the sidecar when it ends well", async () => {
    expect(await outrider(running(""), { cwd })).toMatchObject({ code: 0, stdout: "" });
  });

  it("finds the sidecar through its environment, by our names and by Dapr's", async () => {
    const names =
      "APP_ID OUTRIDER_GRPC_PORT OUTRIDER_HTTP_PORT OUTRIDER_GRPC_ENDPOINT DAPR_GRPC_PORT DAPR_HTTP_PORT DAPR_METRICS_PORT DAPR_GRPC_ENDPOINT DAPR_HTTP_ENDPOINT";
    const script = `console.log(JSON.stringify("${names}".split(" ").map((name) => process.env[name])))`;
    const { stdout, stderr } = await outrider(running(script), { cwd });
    const port = (name: string) => new RegExp(`^ {2}${name} +\\S+:(\\d+)`, "m").exec(stderr)![1];
    const [grpc, http, metrics] = ["grpc", "http", "metrics"].map(port);
    const [id, ...values] = JSON.parse(stdout.replace("[orders] ", "")) as string[];
    expect(id).toBe("orders");
    expect(values).toEqual([
      grpc,
      http,
      `127.0.0.1:${grpc}`,
      grpc,
      http,
      metrics,
      `127.0.0.1:${grpc}`,
      `http://127.0.0.1:${http}`,
    ]);
  });

  it("is told when we are, has its calls served while it ends, and gives the exit code", async () => {
    const script = `
      const url = process.env.DAPR_HTTP_ENDPOINT + "/outrider.state.v1.StateService/Set";
      const set = (key) => fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ key }) });
      process.on("SIGTERM", async () => {
        while ((await fetch(process.env.DAPR_HTTP_ENDPOINT + "/healthz/ready")).status === 204);
        console.log("last call", (await set("last")).status);
        process.exit(3);
      });
      setInterval(() => {}, 1000);
      console.log("running");`;
    await using run = new Outrider(running(script), { cwd });
    await run.said(/running/, "stdout");
    run.kill("SIGTERM");
    expect(await run.ended).toEqual({ code: 3, signal: null });
    expect(run.stdout).toContain("last call 200");
  });

  it("counts as ended well when it ends by the signal that it was told", async () => {
    await using run = new Outrider(running('setInterval(() => {}, 1000); console.log("running")'), { cwd });
    await run.said(/running/, "stdout");
    run.kill("SIGTERM");
    expect(await run.ended).toEqual({ code: 0, signal: null });
  });

  it("tells as shells do by which signal it was killed", async () => {
    const { code } = await outrider(running('process.kill(process.pid, "SIGKILL")'), { cwd });
    expect(code).toBe(137);
  });

  it("is killed when the grace period is over", async () => {
    const script =
      'process.on("SIGTERM", () => console.log("no")); setInterval(() => {}, 1000); console.log(process.pid)';
    await using run = new Outrider(running(script, "--grace", "500ms"), { cwd });
    const pid = Number((await run.said(/\[orders\] (\d+)/, "stdout"))[1]);
    run.kill("SIGTERM");
    expect((await run.ended).code).toBe(137);
    expect(run.stdout).toContain("no");
    expect(() => process.kill(pid, 0)).toThrow();
  });

  it("is killed with us on a second signal", async () => {
    await using life = await watchLife();
    const script = `process.on("SIGTERM", () => console.log("no")); require("node:net").connect(${life.port}, "127.0.0.1", () => console.log("running"))`;
    await using run = new Outrider(running(script, "--grace", "60s"), { cwd });
    await run.said(/running/, "stdout");
    run.kill("SIGTERM");
    await run.said(/no/, "stdout");
    run.kill("SIGTERM");
    expect(await run.ended).toEqual({ code: 1, signal: null });
    await life.over;
  });

  it("is not there when its program is not, and the sidecar ends with 1", async () => {
    const { code, stderr } = await outrider(["run", ...freePorts, "--", "no-such-program"], { cwd });
    expect(code).toBe(1);
    expect(stderr).toContain("no-such-program cannot be started: there is no such program");
  });
});

describe("the flags of outrider run", () => {
  it("bear the names of daprd beside ours", async () => {
    await writeFile(
      join(cwd, "state.yaml"),
      "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: { name: mine }\nspec: { type: state.in-memory }\n",
    );
    const words = [
      ..."run --app-id x --dapr-grpc-port 0 --dapr-http-port 0 --metrics-port 0 --enable-metrics=false".split(
        " ",
      ),
      ..."--dapr-listen-addresses 127.0.0.1 --max-body-size 8Mi --read-buffer-size 8Ki".split(" "),
      ..."--dapr-graceful-shutdown-seconds 1 --log-level warn --log-as-json=false --resources-path".split(
        " ",
      ),
      cwd,
      "--",
      node,
      "-e",
      "",
    ];
    const { code, stderr } = await outrider(words, { cwd });
    expect(code).toBe(0);
    expect(stderr).toMatch(/^ {2}mine +state\.in-memory/m);
    expect(stderr).not.toMatch(/^ {2}metrics/m);
    expect(stderr).not.toContain("stopping");
  });

  it("that daprd has and that mean nothing here are refused with the reason", async () => {
    const { code, stderr } = await outrider(["run", "--enable-mtls", "--mode=kubernetes"], {
      cwd,
    });
    expect(code).toBe(2);
    expect(stderr).toContain("--enable-mtls is not supported yet: sidecars do not talk to each other yet");
    expect(stderr).toContain("--mode is not supported yet");
  });

  it("open a port for health and metadata, and let browsers of an origin in", async () => {
    const script = `
      const ask = async (port, path) => (await fetch("http://127.0.0.1:" + port + path, { headers: { origin: "https://a.example" } }));
      const metadata = await ask(process.env.DAPR_HTTP_PORT, "/v1.0/metadata");
      const open = await ask(process.argv[1], "/v1.0/healthz");
      console.log(metadata.headers.get("access-control-allow-origin"), open.status < 501);
    `;
    const [free] = await freePort(1);
    const flags = ["--dapr-public-port", String(free), "--allowed-origins=https://a.example"];
    const { stdout } = await outrider([...running(script, ...flags), String(free)], { cwd });
    expect(stdout).toBe("[orders] https://a.example true\n");
  });

  it("that do not exist are refused with a suggestion", async () => {
    const { code, stderr } = await outrider(["run", "--grcp-port", "1"], { cwd });
    expect(code).toBe(2);
    expect(stderr).toContain("unknown option '--grcp-port'");
    expect(stderr).toContain("Did you mean --grpc-port?");
  });

  it("with values that make no sense are refused with what was expected", async () => {
    for (const [flag, value, expected] of [
      ["--grpc-port", "99999", "0 to 65535"],
      ["--grace", "soon", '"30s"'],
      ["--max-body-size", "many", '"4Mi"'],
      ["--log-level", "loud", "debug, info, warn, error, fatal"],
    ] as const) {
      const { code, stderr } = await outrider(["run", flag, value], { cwd });
      expect(code, flag).toBe(2);
      expect(stderr, flag).toContain(expected);
    }
  });
});

/** Notices the end of a process that connects: nobody may be there to ask for its exit code. */
async function watchLife() {
  const server = createServer();
  const over = new Promise<void>((done) => {
    server.once("connection", (socket) => socket.on("error", () => {}).once("close", () => done()));
  });
  server.listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  return {
    over,
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () => new Promise<void>((done) => server.close(() => done())),
  };
}
