/** The same calls over every protocol: who changes one server learns here what the other does. */
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import type { Telemetry } from "../../src/telemetry/telemetry.ts";
import { quietTelemetry, silentLog } from "../telemetry/quiet-telemetry.ts";
import { mountsOf, protocols, Scene, type Stage, setStage } from "./service.ts";

const errorOf = (promise: Promise<unknown>): Promise<ConnectError> =>
  promise.then(
    () => {
      throw new Error("the call went well");
    },
    (error: unknown) => ConnectError.from(error),
  );

async function all<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const got: T[] = [];
  for await (const message of messages) got.push(message);
  return got;
}

describe.each(protocols)("$name", (protocol) => {
  const scene = new Scene();
  const logged: unknown[] = [];
  let telemetry: Telemetry;
  let stage: Stage;

  beforeAll(async () => {
    const log = silentLog();
    log.error = (entry: unknown) => logged.push(entry);
    telemetry = { ...quietTelemetry(), log };
    stage = await setStage(protocol, mountsOf(scene), { telemetry });
  });
  afterAll(async () => {
    scene.release();
    await stage.server.close(0);
  });

  it("carries headers and trailers both ways", async () => {
    let header = new Headers();
    let trailer = new Headers();
    await stage.state.get(
      { key: "headers" },
      {
        headers: { "x-asked": "politely" },
        onHeader: (got) => {
          header = got;
        },
        onTrailer: (got) => {
          trailer = got;
        },
      },
    );
    expect([header.get("x-served"), header.get("x-data-bin")]).toEqual(["politely", "AQID"]);
    expect(trailer.get("x-trail")).toBe("end");
  });

  it("carries the code, the message and the reason of a fault", async () => {
    const error = await errorOf(stage.state.get({ key: "fault" }));
    expect([error.code, error.rawMessage]).toEqual([Code.NotFound, "no component ü"]);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason: "COMPONENT_NOT_FOUND", domain: "outrider.dev", metadata: { name: "fault" } },
    ]);
  });

  it("hides what is no fault, and logs it", async () => {
    logged.length = 0;
    const error = await errorOf(stage.state.get({ key: "bug" }));
    expect([error.code, error.rawMessage, error.details]).toEqual([Code.Internal, "internal error", []]);
    expect(logged).toMatchObject([
      { err: { message: "a secret of the house" }, rpc: "outrider.state.v1.StateService/Get" },
    ]);
  });

  it("sends a message that is no valid Unicode as well as it can", async () => {
    const error = await errorOf(stage.state.get({ key: "surrogate" }));
    expect([error.code, error.rawMessage]).toEqual([Code.Internal, "half \ufffd a character"]);
  });

  it("ends a call at its deadline, and tells the handler", async () => {
    scene.aborted.delete("slow");
    // As headers: the client's own timer would be there first.
    const headers = { "grpc-timeout": "100m", "connect-timeout-ms": "100" };
    const error = await errorOf(stage.state.get({ key: "slow" }, { headers }));
    expect(error.code).toBe(Code.DeadlineExceeded);
    expect(scene.aborted.get("slow")).toMatchObject({ code: Code.DeadlineExceeded });
  });

  it("takes a deadline in the far future for none", async () => {
    const headers = { "grpc-timeout": "720H", "connect-timeout-ms": "2592000000" };
    const { item } = await stage.state.get({ key: "far" }, { headers });
    expect(item?.etag).toBe("true");
  });

  it("answers UNIMPLEMENTED for a method that nobody implements", async () => {
    expect((await errorOf(stage.state.list({}))).code).toBe(Code.Unimplemented);
  });

  it("streams from the server", async () => {
    const got = await all(stage.state.watch({ selector: { case: "key", value: "k" } }));
    expect(got.map(({ position }) => position)).toEqual(["k0", "k1", "k2"]);
  });

  it("ends a stream with a fault after its messages", async () => {
    const got: string[] = [];
    const watching = async () => {
      for await (const { position } of stage.state.watch({ selector: { case: "key", value: "fault" } })) {
        got.push(position);
      }
    };
    const error = await errorOf(watching());
    expect(got).toEqual(["fault0", "fault1", "fault2"]);
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("POSITION_EXPIRED");
  });

  it("hides what is no fault in a stream too", async () => {
    const error = await errorOf(all(stage.state.watch({ selector: { case: "key", value: "bug" } })));
    expect([error.code, error.rawMessage]).toEqual([Code.Internal, "internal error"]);
  });

  it("streams from the client", async () => {
    async function* chunks() {
      for (let i = 0; i < 100; i++) yield { part: { case: "chunk" as const, value: new Uint8Array(1000) } };
    }
    expect((await stage.state.write(chunks())).valueBytes).toBe(100_000n);
  });

  it("answers a client that streams before it has ended", async () => {
    async function* chunks() {
      for (;;) yield { part: { case: "chunk" as const, value: new Uint8Array(100_000) } };
    }
    const error = await errorOf(stage.state.write(chunks()));
    expect(error.code).toBe(Code.ResourceExhausted);
  });

  if (protocol.duplex) {
    it("goes on with a stream both ways after the client has half-closed", async () => {
      async function* closes() {
        for (const subscription of [1, 2, 3]) {
          yield { message: { case: "close" as const, value: { subscription } } };
        }
      }
      const got = await all(stage.pubsub.subscribe(closes()));
      expect(got.map(({ message }) => message.case === "closed" && message.value.subscription)).toEqual([
        1, 2, 3, 1001, 1002,
      ]);
    });

    it("ends the requests of a client that leaves a stream both ways", async () => {
      scene.ended.delete("requests");
      scene.aborted.delete("subscribe");
      const leaving = new AbortController();
      async function* closes() {
        yield { message: { case: "close" as const, value: { subscription: 1 } } };
        await new Promise((resolve) => leaving.signal.addEventListener("abort", resolve));
      }
      const talking = async () => {
        for await (const _ of stage.pubsub.subscribe(closes(), { signal: leaving.signal })) leaving.abort();
      };
      expect((await errorOf(talking())).code).toBe(Code.Canceled);
      await expect.poll(() => scene.ended.has("requests")).toBe(true);
      expect(scene.aborted.has("subscribe")).toBe(true);
    });
  } else {
    it("refuses a stream both ways, which HTTP/1.1 cannot carry", async () => {
      async function* none() {}
      expect((await errorOf(all(stage.pubsub.subscribe(none())))).rawMessage).toBe("HTTP 505");
    });
  }

  it("stops a handler whose client leaves, and returns its iterator", async () => {
    scene.aborted.delete("endless");
    scene.ended.delete("endless");
    const leaving = new AbortController();
    const watching = async () => {
      const selector = { case: "key" as const, value: "endless" };
      for await (const _ of stage.state.watch({ selector }, { signal: leaving.signal })) leaving.abort();
    };
    expect((await errorOf(watching())).code).toBe(Code.Canceled);
    await expect.poll(() => scene.ended.has("endless")).toBe(true);
    expect(scene.aborted.has("endless")).toBe(true);
  });

  it("hands the trace of the client to the handler", async () => {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await stage.state.get({ key: "trace" }, { headers: { traceparent, tracestate: "a=b", baggage: "c=d" } });
    expect(scene.trace).toEqual({ traceparent, tracestate: "a=b", baggage: "c=d" });
    await stage.state.get({ key: "trace" });
    expect(scene.trace).toEqual({ traceparent: "", tracestate: "", baggage: "" });
  });

  it("counts calls by method and code", async () => {
    await stage.state.set({ value: new Uint8Array(5) });
    const text = () => telemetry.metrics.text();
    const labels = 'service="outrider.state.v1.StateService",method="Set"';
    await expect.poll(text).toContain(`outrider_rpc_requests_total{${labels},code="OK"} 1\n`);
    await expect.poll(text).toContain(`outrider_rpc_duration_seconds_count{${labels}} 1\n`);
    await expect.poll(text).toContain(`outrider_rpc_in_flight{${labels}} 0\n`);
    await expect
      .poll(text)
      .toContain(
        'outrider_rpc_requests_total{service="outrider.state.v1.StateService",method="Get",code="INTERNAL"} 2\n',
      );
  });
});
