/** Process, configuration, metadata. */
import { randomUUID } from "node:crypto";
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import { Daprd, inMemory, v1 } from "../daprd.ts";
import { GrpcApp } from "../grpc-app.ts";
import { HttpApp } from "../http-app.ts";
import { component, configuration } from "./yaml.ts";

const version = /^(edge|\d+\.\d+\.\d+(-rc\.\d+)?)$/;
const capabilities = ["ETAG", "TRANSACTIONAL", "TTL", "DELETE_WITH_PREFIX", "KEYS_LIKE", "ACTOR"];

describe("process, configuration, metadata", () => {
  it("ports/all-listen", async () => {
    await using app = await GrpcApp.start();
    await using daprd = await Daprd.start({ app: { port: app.port, protocol: "http" }, wait: false });
    for (const port of [app.port, ...daprd.ports]) expect(await accepts(port)).toBe(true);
    daprd.signal("SIGINT");
    expect(await daprd.exitCode()).toBe(0);
  });

  it("metadata/http-layout", async () => {
    await using app = await HttpApp.start({ routes: { "/B": 200 } });
    const resources = inMemory("pubsub") + v1("sub", "B", "/B", { pubsubname: "pubsub" });
    await using daprd = await Daprd.start({ resources, app });
    for (const port of [daprd.httpPort, daprd.publicPort]) {
      const response = await fetch(`http://127.0.0.1:${port}/v1.0/metadata`);
      const metadata = (await response.json()) as Record<string, unknown>;
      expect(metadata).toMatchObject({
        id: daprd.appId,
        runtimeVersion: expect.stringMatching(version),
        extended: { daprRuntimeVersion: expect.stringMatching(version) },
        appConnectionProperties: { port: app.port, protocol: "http", channelAddress: "127.0.0.1" },
        subscriptions: [{ pubsubname: "pubsub", topic: "B", rules: [{ path: "/B" }], type: "DECLARATIVE" }],
      });
      expect(metadata).not.toHaveProperty("enabledFeatures");
    }
  });

  it("config/two-files-later-wins", async () => {
    const feature = (name: string) => configuration({ features: [{ name, enabled: true }] });
    await using daprd = await Daprd.start({ configs: [feature("Feature1"), feature("Feature2")] });
    const metadata = (await daprd.metadata()) as { enabledFeatures?: string[] };
    expect(metadata.enabledFeatures).toContain("Feature2");
    expect(metadata.enabledFeatures).not.toContain("Feature1");
  });

  it("resources/namespace-filter", async () => {
    const store = (name: string, namespace?: string) =>
      component(name, "state.in-memory", {}, { ...(namespace && { namespace }) });
    const resources = [
      store("abc", "abc"),
      store("123").replace("'123'", "123"),
      store("456", "foobar").replace("'456'", "456"),
      store("789", "mynamespace").replace("'789'", "789"),
    ].join("\n");
    await using daprd = await Daprd.start({ resources, env: { NAMESPACE: "mynamespace" } });
    const { registeredComponents } = await daprd.grpc.getMetadata({});
    expect(registeredComponents.map((each) => ({ ...each, $typeName: undefined }))).toEqual(
      ["123", "789"].map((name) => ({ name, type: "state.in-memory", version: "v1", capabilities })),
    );
  });

  it("jobs/no-scheduler", async () => {
    await using daprd = await Daprd.start();
    await daprd.grpc.getMetadata({});
    const job = { name: randomUUID(), schedule: "@every 20s" };
    await expect(daprd.grpc.scheduleJob({ job })).rejects.toThrow();
    await daprd.grpc.getMetadata({});
  });

  it("ends with 0 on SIGTERM, with a stream of a client open", async () => {
    await using daprd = await Daprd.start({ resources: inMemory() });
    const requests = async function* () {
      const value = { pubsubName: "mypub", topic: "a" };
      yield { subscribeTopicEventsRequestType: { case: "initialRequest", value } } as const;
      await new Promise(() => {});
    };
    const stream = daprd.grpc.subscribeTopicEventsAlpha1(requests())[Symbol.asyncIterator]();
    await stream.next();
    daprd.signal("SIGTERM");
    expect(await daprd.exitCode()).toBe(0);
    await stream.next().catch(() => {});
  });

  it("takes flags that nobody has, and files as daprd takes them", async () => {
    const resources = `

---
apiVersion: dapr.io/v1alpha1
Kind: Component
metadata:
  name: 123
spec:
  type: state.in-memory
  version: v1
  metadata:
  - {name: actorStateStore, value: true}
  - {name: unknown, value: x}
scopes: []
scopes: []
---
${configuration({ tracing: { samplingRate: "1" } })}`;
    const flags = ["-placement-host-address=localhost:65500", "--unknown=1", "--enable-mtls", "word"];
    await using daprd = await Daprd.start({ resources, flags });
    expect((await daprd.metadata()).components).toEqual([
      { name: "123", type: "state.in-memory", version: "v1", capabilities },
    ]);
    expect(daprd.log).toContain("--unknown");
  });

  it("logs as daprd does, in text or in JSON, and says when it is initialized", async () => {
    const sentence = /^dapr initialized. Status: Running. Init Elapsed \d+ms$/;
    await using text = await Daprd.start();
    const line = new RegExp(
      `^time="[^"]+" level=info msg="${sentence.source.slice(1, -1)}" app_id=${text.appId} `,
      "m",
    );
    await expect.poll(() => text.log, { timeout: 5000 }).toMatch(line);
    await using json = await Daprd.start({ flags: ["--log-as-json"] });
    await expect.poll(() => json.log, { timeout: 5000 }).toContain("dapr initialized");
    const all = json.log
      .trimEnd()
      .split("\n")
      .map((each) => JSON.parse(each) as Record<string, string>);
    const found = all.find(({ msg }) => sentence.test(msg ?? ""));
    expect(found).toMatchObject({ app_id: json.appId, level: "info", scope: "dapr.runtime", type: "log" });
    expect(found?.["time"]).toMatch(/^\d{4}-\d\d-\d\dT/);
  });
});

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    const end = (result: boolean) => {
      socket.destroy();
      resolve(result);
    };
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
  });
}
