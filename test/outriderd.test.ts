/** The one file that can be put wherever a daprd was. */
import { execFile, spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePorts } from "./servers/ports.ts";

const build = resolve(import.meta.dirname, "../build.ts");
let folder: string;
let executable: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "outriderd-build-"));
  await promisify(execFile)(process.execPath, [build, join(folder, "dist")], { cwd: join(build, "..") });
  await mkdir(join(folder, "elsewhere"));
  executable = join(folder, "elsewhere", "daprd");
  await copyFile(join(folder, "dist", "outriderd"), executable);
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("outriderd, built", () => {
  it("says its version", async () => {
    const { stdout } = await promisify(execFile)(executable, ["--version"], { env: {} });
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it("runs from anywhere without any variable, keeps data, and leaves no other files", async () => {
    const cwd = join(folder, "elsewhere");
    const store = join(folder, "data.db");
    await mkdir(join(folder, "resources"));
    await writeFile(
      join(folder, "resources", "store.yaml"),
      `apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: mystore}
spec: {type: state.sqlite, version: v1, metadata: [{name: connectionString, value: ${store}}]}
`,
    );
    const [http, grpc, metrics] = await freePorts(3);
    const words = [
      ...["--app-id=a", `--dapr-http-port=${http}`, `--dapr-grpc-port=${grpc}`, `--metrics-port=${metrics}`],
      ...["-dapr-listen-addresses=127.0.0.1", `--resources-path=${join(folder, "resources")}`],
    ];
    const child = spawn(executable, words, { cwd, env: {}, stdio: ["ignore", "pipe", "pipe"] });
    const ended = new Promise((done) => child.once("close", done));
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (text) => (stdout += text));
    child.stderr.on("data", (text) => (stderr += text));
    try {
      const url = `http://127.0.0.1:${http}/v1.0`;
      const health = () =>
        fetch(`${url}/healthz`).then(
          ({ status }) => status,
          () => child.exitCode,
        );
      await expect.poll(health, { timeout: 25_000 }).toBe(204);
      const saved = await fetch(`${url}/state/mystore`, { method: "POST", body: '[{"key":"a","value":1}]' });
      expect(saved.status).toBe(204);
      child.kill("SIGINT");
      expect(await ended).toBe(0);
      expect(stderr).toBe("");
      expect(stdout).toContain("dapr initialized");
      expect(await readdir(cwd)).toEqual(["daprd"]);
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
  });
});
