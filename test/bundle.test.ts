/** What `npm run build` makes: the package's bundle, and the one file that can be put wherever a daprd was. */
import { execFile, spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { Dapr } from "../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import { PubSubService } from "../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { ComponentStatus, RuntimeService } from "../gen/outrider/runtime/v1/runtime_pb.ts";
import { built } from "./built.ts";
import { makeProject, outrider, removeProject, SidecarProcess } from "./outrider.ts";
import { freePorts } from "./servers/ports.ts";

let folder: string;
let executable: string;
/** The program of the package. */
let program: string;
beforeAll(async () => {
  const dist = await built();
  program = join(dist, "outrider.js");
  folder = await mkdtemp(join(tmpdir(), "outriderd-"));
  await mkdir(join(folder, "elsewhere"));
  executable = join(folder, "elsewhere", "daprd");
  await copyFile(join(dist, "outriderd"), executable);
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

/** Components of every library; the servers are away. */
const away = Object.entries<Readonly<Record<string, string>>>({
  "state.redis": { redisHost: "127.0.0.1:1" },
  "pubsub.redis": { redisHost: "127.0.0.1:1" },
  "state.postgresql": { connectionString: "postgres://user@127.0.0.1:1/db" },
  "pubsub.postgresql": { connectionString: "postgres://user@127.0.0.1:1/db" },
  "state.jetstream": { natsURL: "nats://127.0.0.1:1", bucket: "b" },
  "pubsub.jetstream": { natsURL: "nats://127.0.0.1:1" },
  "pubsub.kafka": { brokers: "127.0.0.1:1", authType: "none" },
});

function component(name: string, type: string, fields: Readonly<Record<string, string>> = {}): object {
  const metadata = Object.entries(fields).map(([field, value]) => ({ name: field, value }));
  const spec = { type, version: "v1", metadata, ignoreErrors: true };
  return { apiVersion: "dapr.io/v1alpha1", kind: "Component", metadata: { name }, spec };
}

function subscription(rule: string): object {
  const routes = { rules: [{ match: rule, path: "large" }], default: "small" };
  const spec = { pubsubname: "events", topic: "orders", routes };
  return { apiVersion: "dapr.io/v2alpha1", kind: "Subscription", metadata: { name: "orders" }, spec };
}

/** A project with these resources. */
async function project(resources: readonly object[]): Promise<string> {
  const cwd = await makeProject();
  onTestFinished(() => removeProject(cwd));
  // JSON is YAML.
  await writeFile(join(cwd, "all.yaml"), resources.map((each) => JSON.stringify(each)).join("\n---\n"));
  return cwd;
}

describe("the bundle", () => {
  it("refuses a rule that is no CEL", async () => {
    const cwd = await project([component("events", "pubsub.sqlite"), subscription("event.data.total >")]);
    const { code, stderr } = await outrider(["check", "all.yaml"], { cwd, program });
    expect(stderr).toContain("must be a valid CEL expression");
    expect(code).toBe(2);
  });

  it("reads a handful of files for a sidecar without any resource", async () => {
    const cwd = await project([]);
    // Node keeps the compiled code of each file that was read.
    const kept = join(cwd, "compiled");
    const sidecar = await SidecarProcess.start({ cwd, program, env: { NODE_COMPILE_CACHE: kept } });
    sidecar.kill("SIGTERM");
    await sidecar.ended;
    const files = (await readdir(kept, { recursive: true, withFileTypes: true })).filter((each) =>
      each.isFile(),
    );
    expect(files.length).toBeGreaterThan(0);
    expect(files.length).toBeLessThan(16);
  });

  it("reads no contract and no schema for a sidecar without resources and calls: both take their time to be made", async () => {
    const files = (await readdir(dirname(program))).filter((name) => name.startsWith("start-"));
    expect(files).toHaveLength(1);
    const code = await readFile(join(dirname(program), files[0]!), "utf8");
    // Each file of protobuf is made by one of these.
    expect(code).not.toContain("fileDesc(");
    expect(code).not.toContain("ZodType");
  });

  it("serves both APIs, tries rules, and has every library in it", async () => {
    const resources = [
      component("store", "state.in-memory"),
      component("events", "pubsub.sqlite"),
      subscription("event.data.total > 100"),
      ...away.map(([type, fields]) => component(type, type, fields)),
    ];
    const cwd = await project(resources);
    await using sidecar = await SidecarProcess.start({ cwd, program }, "--resources-path=all.yaml");
    const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${sidecar.grpcPort}` });

    const pubsub = createClient(PubSubService, transport);
    const data = Buffer.from('{"total":200}');
    const event = { type: "order", datacontenttype: "application/json", data };
    await pubsub.publish({ component: "events", topic: "orders", outgoing: { event } });
    const open = { subscription: 1, declared: "orders" };
    let route: string | undefined;
    async function* say() {
      yield { message: { case: "open" as const, value: open } };
      await new Promise(() => {});
    }
    for await (const { message } of pubsub.subscribe(say())) {
      if (message.case === "deliver") route = message.value.deliveries[0]!.route;
      if (message.case !== "opened") break;
    }
    expect(route).toBe("large");

    const url = `http://127.0.0.1:${sidecar.httpPort}/v1.0/state/store`;
    expect((await fetch(url, { method: "POST", body: '[{"key":"a","value":1}]' })).status).toBe(204);
    const { data: saved } = await createClient(Dapr, transport).getState({ storeName: "store", key: "a" });
    expect(Buffer.from(saved).toString()).toBe("1");

    const runtime = createClient(RuntimeService, transport);
    const waiting = async () => {
      const { components } = await runtime.getMetadata({});
      return components.filter(({ status }) => status === ComponentStatus.FAILED);
    };
    await expect.poll(async () => (await waiting()).length, { timeout: 30_000 }).toBe(away.length);
    for (const { statusMessage } of await waiting())
      expect(statusMessage).toMatch(/ECONNREFUSED|127\.0\.0\.1:1|refused/);
  });
});
