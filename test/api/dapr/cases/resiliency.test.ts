/** Section 9 of dapr-cases.md: Resiliency, as far as it is about components. */
import { once } from "node:events";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { TopicEventResponse_TopicEventResponseStatus as Status } from "../../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import { memoryStore } from "../../../components/pluggable/memory-store.ts";
import { SocketsFolder } from "../../../components/pluggable/node-component.ts";
import { Daprd, inMemory } from "../daprd.ts";
import { TopicStream } from "../topic-stream.ts";
import { DATA } from "./payloads.ts";
import { component } from "./yaml.ts";

const resiliency = (spec: object) => `---
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: myresiliency}
spec: ${JSON.stringify(spec)}
`;

describe("resiliency", () => {
  it("resiliency/subscription/streaming", async () => {
    const retries = { pubsub: { policy: "constant", duration: "10ms", maxRetries: 4 } };
    const targets = { components: { mypub: { inbound: { retry: "pubsub" } } } };
    await using daprd = await Daprd.start({
      resources: inMemory() + resiliency({ policies: { retries }, targets }),
    });
    using stream = await TopicStream.open(daprd, "a");
    await daprd.publishEvent("a", DATA, "application/json");
    for (let n = 0; n < 5; n++) {
      const event = await stream.event();
      expect(event).toMatchObject({ topic: "a", pubsubName: "mypub", path: "/" });
      expect(Buffer.from(event.data).toString()).toBe(DATA);
      stream.settle(event.id, Status.RETRY);
    }
    const silence = once(AbortSignal.timeout(1000), "abort").then(() => "silence");
    expect(await Promise.race([stream.event(), silence])).toBe("silence");
    daprd.signal("SIGINT");
    expect(await daprd.exitCode()).toBe(0);
  });

  it("resiliency/publish/http-matching", { timeout: 30_000 }, async () => {
    await using sockets = await SocketsFolder.make();
    const codes: Readonly<Record<string, Code>> = {
      retriable: Code.Unavailable,
      toomany: Code.ResourceExhausted,
    };
    const calls = new Map<string, number>();
    const publish = ({ topic }: { topic: string }): never => {
      calls.set(topic, (calls.get(topic) ?? 0) + 1);
      throw new ConnectError("no", codes[topic] ?? Code.FailedPrecondition);
    };
    await sockets.serve("failing", { pubsub: { features: () => ({}), publish } });
    const retries = {
      matching: { duration: "10ms", maxRetries: 3, matching: { httpStatusCodes: "429,500-599" } },
      all: { duration: "10ms", maxRetries: 3 },
    };
    const components = {
      "pubsub-match": { outbound: { retry: "matching" } },
      "pubsub-nomatch": { outbound: { retry: "all" } },
    };
    await using daprd = await Daprd.start({
      resources:
        component("pubsub-match", "pubsub.failing") +
        component("pubsub-nomatch", "pubsub.failing") +
        resiliency({ policies: { retries }, targets: { components } }),
      env: sockets.env,
    });
    for (const [path, expected] of [
      ["pubsub-match/retriable", 4],
      ["pubsub-match/toomany", 4],
      ["pubsub-match/terminal", 1],
      ["pubsub-nomatch/terminalnomatcherrcode", 4],
    ] as const) {
      const [pubsub, topic] = path.split("/") as [string, string];
      const headers = { "content-type": "application/json" };
      expect(await daprd.publish(topic, '{"id":1}', headers, pubsub)).not.toBe(204);
      expect([path, calls.get(topic)]).toEqual([path, expected]);
    }
  });

  it("calls of a state store are under its timeout, its retries and its circuit breaker", {
    timeout: 30_000,
  }, async () => {
    await using sockets = await SocketsFolder.make();
    const { state, ...others } = memoryStore(["ETAG", "TRANSACTIONAL", "TTL"]);
    let calls = 0;
    const get: NonNullable<typeof state>["get"] = async ({ key }) => {
      calls += 1;
      if (key.endsWith("slow")) await new Promise<never>(() => {});
      if (key.endsWith("away") || (key.endsWith("second") && calls < 2))
        throw new ConnectError("no", Code.Unavailable);
      return { data: Buffer.from("there"), etag: { value: "1" } };
    };
    await sockets.serve("store", { ...others, state: { ...state, get } });
    const policies = {
      timeouts: { short: "200ms" },
      retries: { some: { duration: "10ms", maxRetries: 2 } },
      circuitBreakers: { soon: { timeout: "60s", trip: "consecutiveFailures > 2" } },
    };
    const components = {
      patient: { outbound: { retry: "some" } },
      hasty: { outbound: { timeout: "short" } },
      broken: { outbound: { circuitBreaker: "soon" } },
    };
    await using daprd = await Daprd.start({
      resources:
        Object.keys(components)
          .map((name) => component(name, "state.store"))
          .join("") + resiliency({ policies, targets: { components } }),
      env: sockets.env,
    });
    const read = async (path: string) => {
      calls = 0;
      const response = await fetch(daprd.url(`/v1.0/state/${path}`));
      return { status: response.status, text: await response.text(), calls };
    };
    expect(await read("patient/second")).toEqual({ status: 200, text: "there", calls: 2 });
    expect(await read("patient/away")).toMatchObject({ status: 500, calls: 3 });

    const startedAt = performance.now();
    const late = await read("hasty/slow");
    expect(performance.now() - startedAt).toBeLessThan(1500);
    expect(late).toMatchObject({ status: 500, calls: 1 });
    expect(late.text).toContain("context deadline exceeded");

    for (let n = 0; n < 3; n++) expect(await read("broken/away")).toMatchObject({ status: 500, calls: 1 });
    const open = await read("broken/there");
    expect(open).toMatchObject({ status: 500, calls: 0 });
    expect(open.text).toContain("circuit breaker is open");
  });
});
