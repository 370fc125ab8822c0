/** How a sidecar stops, as an application on its gRPC port sees it. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import type { Delivery } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { makeProject, removeProject, SidecarProcess } from "../outrider.ts";
import { Application, Outbox } from "./application.ts";

let cwd: string;
let sidecar: SidecarProcess;
let app: Application;
beforeEach(async () => {
  cwd = await makeProject();
  sidecar = await start("--grace", "20s");
  app = new Application(sidecar.grpcPort);
});
afterEach(async () => {
  app?.[Symbol.dispose]();
  await sidecar?.[Symbol.asyncDispose]();
  await removeProject(cwd);
});

const start = (...flags: readonly string[]) => SidecarProcess.start({ cwd }, "--app-id", "app", ...flags);
const stopped = { code: 0, signal: null };
const textOf = ({ event }: Delivery) => Buffer.from(event!.data).toString();
const refusalOf = (promise: Promise<unknown>): Promise<string | undefined> =>
  promise.then(
    () => "",
    (error: unknown) => ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason,
  );

/** A stream that holds an event of the topic. */
async function holder(topic: string) {
  await app.publish(topic, "held");
  const stream = app.subscribe([{ topic }]);
  await stream.delivered(1);
  return stream;
}

describe("a sidecar that is asked to stop", () => {
  it("is not serving any more, for probes that ask and for those that watch", async () => {
    const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${sidecar.grpcPort}` });
    const health = createClient(Health, transport);
    const leaving = new AbortController();
    const watch = health.watch({}, { signal: leaving.signal })[Symbol.asyncIterator]();
    expect((await watch.next()).value.status).toBe(Status.SERVING);
    using stream = await holder("health");
    sidecar.kill("SIGTERM");
    expect((await watch.next()).value.status).toBe(Status.NOT_SERVING);
    expect((await health.check({})).status).toBe(Status.NOT_SERVING);
    const http = `http://127.0.0.1:${sidecar.httpPort}`;
    expect((await fetch(`${http}/healthz/ready`)).status).toBe(503);
    leaving.abort();
    stream.settle(stream.deliveries);
    expect(await sidecar.ended).toEqual(stopped);
  });

  it("tells its streams until when, lets them settle what they hold, and serves calls meanwhile", async () => {
    using stream = await holder("orders");
    sidecar.kill("SIGTERM");
    const { value } = await stream.heard("drain");
    const leftMs = timestampMs(value.deadline!) - Date.now();
    expect(leftMs).toBeGreaterThan(15_000);
    expect(leftMs).toBeLessThanOrEqual(20_000);
    await app.state.set({ key: "during", value: Buffer.from("1") });
    await app.publish("orders", "later");
    stream.settle(stream.deliveries);
    expect(await stream.ended).toBeUndefined();
    expect(await sidecar.ended).toEqual(stopped);
    expect(stream.deliveries.map(textOf)).toEqual(["held"]);

    await using next = await start();
    using again = new Application(next.grpcPort);
    using rest = again.subscribe([{ topic: "orders" }]);
    expect((await rest.delivered(1)).map((each) => [textOf(each), each.attempt])).toEqual([["later", 1]]);
    expect(Buffer.from((await again.state.get({ key: "during" })).item!.value).toString()).toBe("1");
  });

  it("ends streams that hold nothing at once, and waits for nobody else", async () => {
    using idle = app.subscribe([{ topic: "idle" }]);
    await idle.heard("opened");
    const watching = new AbortController();
    const watch = app.state
      .watch({ selector: { case: "key", value: "k" } }, { signal: watching.signal })
      [Symbol.asyncIterator]();
    await watch.next();
    const startedAt = performance.now();
    sidecar.kill("SIGTERM");
    expect(await idle.ended).toBeUndefined();
    const ending = watch.next().then(
      () => undefined,
      (error: unknown) => ConnectError.from(error).code,
    );
    expect(await sidecar.ended).toEqual(stopped);
    expect(await ending).toBe(Code.Unavailable);
    // Far less than the grace period.
    expect(performance.now() - startedAt).toBeLessThan(15_000);
  });

  it("takes no new stream, and no new subscription on an old one", async () => {
    using stream = await holder("old");
    sidecar.kill("SIGTERM");
    await stream.heard("drain");
    using late = app.subscribe([{ topic: "new" }]);
    expect(await refusalOf(late.ended.then((error) => Promise.reject(error)))).toBe("SHUTTING_DOWN");
    stream.send({ message: { case: "open", value: { subscription: 2, topic: "new" } } });
    const { value } = await stream.heard("closed");
    expect(value).toMatchObject({ subscription: 2, reason: "SHUTTING_DOWN" });
    stream.settle(stream.deliveries);
    expect(await sidecar.ended).toEqual(stopped);
  });

  it("ends a publish stream with its reason, and has what it acknowledged", async () => {
    const outbox = new Outbox<{ topic: string; outgoing: { event: { data: Uint8Array } }[] }>();
    const send = () => outbox.send({ topic: "stream", outgoing: [{ event: { data: Buffer.from("x") } }] });
    send();
    let acknowledged = 0n;
    const ended = (async () => {
      for await (const { settledThrough, failures } of app.pubsub.publishStream(outbox)) {
        expect(failures).toEqual([]);
        acknowledged = settledThrough;
        send();
        if (settledThrough === 100n) sidecar.kill("SIGTERM");
      }
    })();
    expect(await refusalOf(ended)).toBe("SHUTTING_DOWN");
    expect(await sidecar.ended).toEqual(stopped);
    expect(acknowledged).toBeGreaterThanOrEqual(100n);

    await using next = await start();
    using again = new Application(next.grpcPort);
    using stream = again.subscribe([{ topic: "stream", maxInFlight: 65_536 }]);
    await stream.delivered(Number(acknowledged));
  });

  it("by a client stops in the same way", async () => {
    using stream = await holder("asked");
    await app.runtime.shutdown({});
    await stream.heard("drain");
    stream.settle(stream.deliveries);
    expect(await stream.ended).toBeUndefined();
    expect(await sidecar.ended).toEqual(stopped);
  });

  it("a second time ends at once, and the next one delivers what was held", async () => {
    using stream = await holder("twice");
    sidecar.kill("SIGTERM");
    await stream.heard("drain");
    sidecar.kill("SIGINT");
    expect(await sidecar.ended).toEqual({ code: 1, signal: null });
    await using next = await start();
    using again = new Application(next.grpcPort);
    using rest = again.subscribe([{ topic: "twice" }]);
    expect((await rest.delivered(1)).map(textOf)).toEqual(["held"]);
  });

  it("gives back what is not settled in the grace period, and the next one delivers it as if for the first time", async () => {
    await using short = await start("--grace", "1s");
    using slow = new Application(short.grpcPort);
    await slow.publish("slow", "held");
    using stream = slow.subscribe([{ topic: "slow" }]);
    await stream.delivered(1);
    short.kill("SIGTERM");
    const error = await stream.ended;
    expect(error?.findDetails(ErrorInfoSchema)[0]?.reason).toBe("SHUTTING_DOWN");
    expect(await short.ended).toEqual(stopped);
    using rest = app.subscribe([{ topic: "slow" }]);
    expect((await rest.delivered(1)).map((each) => [textOf(each), each.attempt])).toEqual([["held", 1]]);
  });
});
