/** Two real services whose handlers do what a test asks of them, by the key in the request. */
import { setMaxListeners } from "node:events";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { PubSubService } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { StateService } from "../../gen/outrider/state/v1/state_pb.ts";
import { fault } from "../../src/faults.ts";
import { startGrpcServer } from "../../src/server/grpc.ts";
import { type HttpServerOptions, startHttpServer } from "../../src/server/http.ts";
import type { Listening } from "../../src/server/listening.ts";
import { type LateMount, type Mount, mount } from "../../src/server/mount.ts";
import { type TraceHeaders, traceOf } from "../../src/telemetry/tracing.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";

/** What the handlers have seen, and what they wait for. */
export class Scene {
  /** Messages that the handler of a watch has made. */
  made = 0;
  /** Why signals aborted, by key. */
  readonly aborted = new Map<string, unknown>();
  /** What has ended: iterators that were returned, inputs that came to an end. */
  readonly ended = new Set<string>();
  /** Keys of calls whose handlers have begun. */
  readonly begun = new Set<string>();
  trace: TraceHeaders | undefined;
  readonly #release = Promise.withResolvers<void>();

  /** Lets handlers of "deaf" go on. */
  release(): void {
    this.#release.resolve();
  }

  get released(): Promise<void> {
    return this.#release.promise;
  }
}

/** Mounts of both services that play in this scene. */
export function mountsOf(scene: Scene): Mount[] {
  const aborting = (key: string, signal: AbortSignal) => {
    setMaxListeners(0, signal);
    signal.addEventListener("abort", () => scene.aborted.set(key, signal.reason));
  };
  const state = mount(StateService, {
    async get({ key }, context) {
      scene.begun.add(key);
      if (key === "headers") {
        context.responseHeader.set("x-served", context.requestHeader.get("x-asked") ?? "");
        context.responseHeader.set("x-data-bin", "AQID");
        context.responseTrailer.set("x-trail", "end");
      }
      if (key === "trace") scene.trace = traceOf(context);
      if (key === "fault") throw fault("COMPONENT_NOT_FOUND", "no component ü", { metadata: { name: key } });
      if (key === "surrogate") throw fault("COMPONENT_FAILED", "half \ud800 a character");
      if (key === "bug") throw new TypeError("a secret of the house");
      if (key === "slow") {
        aborting(key, context.signal);
        await new Promise((_, reject) =>
          context.signal.addEventListener("abort", () => reject(new Error("torn"))),
        );
      }
      if (key === "deaf") await scene.released;
      const size = /^size:(\d+)$/.exec(key)?.[1];
      if (size) return { item: { key, value: new Uint8Array(Number(size)) } };
      return { item: { key, etag: String(context.timeoutMs() === undefined) } };
    },
    async set({ value }) {
      return { etag: String(value.length) };
    },
    async *watch({ selector }, { signal }) {
      const key = selector.value ?? "";
      scene.begun.add(key);
      aborting(key, signal);
      try {
        for (let i = 0; i < 3; i++) yield { position: `${key}${i}` };
        if (key === "fault") throw fault("POSITION_EXPIRED", "too old");
        if (key === "bug") throw new TypeError("a secret of the house");
        while (key === "endless") {
          scene.made++;
          yield { changes: [{ key, item: { value: new Uint8Array(16 * 1024) } }] };
        }
        if (key === "idle") await new Promise((resolve) => signal.addEventListener("abort", resolve));
      } finally {
        scene.ended.add(key);
      }
    },
    async write(requests, { signal }) {
      aborting("write", signal);
      let bytes = 0;
      try {
        for await (const { part } of requests) {
          scene.begun.add("write");
          if (part.case === "chunk") bytes += part.value.length;
          if (bytes > 1_000_000) throw fault("TOO_LARGE", "enough");
        }
      } finally {
        scene.ended.add("write");
      }
      return { valueBytes: BigInt(bytes) };
    },
  });
  const pubsub = mount(PubSubService, {
    async *subscribe(requests, { signal }) {
      aborting("subscribe", signal);
      try {
        for await (const { message } of requests) {
          scene.begun.add("subscribe");
          if (message.case === "close") {
            const { subscription } = message.value;
            yield { message: { case: "closed", value: { subscription } } };
          }
        }
      } finally {
        scene.ended.add("requests");
      }
      for (const subscription of [1001, 1002]) {
        yield { message: { case: "closed", value: { subscription } } };
      }
    },
  });
  return [state, pubsub];
}

type Options = Partial<HttpServerOptions>;

/** The port that a protocol is served on. */
export function startServer(
  name: "grpc" | "http",
  mounts: readonly (LateMount | Mount)[],
  options: Options = {},
): Promise<Listening> {
  const all = { host: "127.0.0.1", port: 0, telemetry: quietTelemetry(), mounts, ...options };
  return name === "grpc" ? startGrpcServer(all) : startHttpServer(all);
}

/** A protocol, and how a client speaks it. */
export interface Protocol {
  readonly name: string;
  readonly port: "grpc" | "http";
  /** Whether a stream can go both ways at once. */
  readonly duplex: boolean;
  transport(baseUrl: string): Transport;
}

const limits = { readMaxBytes: 64 * 1024 * 1024, writeMaxBytes: 64 * 1024 * 1024 };

export const protocols: readonly Protocol[] = [
  {
    name: "gRPC on the gRPC port",
    port: "grpc",
    duplex: true,
    transport: (baseUrl) => createGrpcTransport({ baseUrl, ...limits }),
  },
  {
    name: "gRPC on the HTTP port",
    port: "http",
    duplex: true,
    transport: (baseUrl) => createGrpcTransport({ baseUrl, ...limits }),
  },
  {
    name: "Connect with JSON over HTTP/1.1",
    port: "http",
    duplex: false,
    transport: (baseUrl) =>
      createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false, ...limits }),
  },
  {
    name: "Connect with protobuf over HTTP/2",
    port: "http",
    duplex: true,
    transport: (baseUrl) =>
      createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: true, ...limits }),
  },
  {
    name: "gRPC-Web over HTTP/1.1",
    port: "http",
    duplex: false,
    transport: (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1", ...limits }),
  },
];

/** A server, and clients of it. */
export interface Stage {
  readonly server: Listening;
  readonly baseUrl: string;
  readonly state: Client<typeof StateService>;
  readonly pubsub: Client<typeof PubSubService>;
}

/** Starts the server of a protocol. The test closes it. */
export async function setStage(
  protocol: Protocol,
  mounts: readonly (LateMount | Mount)[],
  options: Options = {},
): Promise<Stage> {
  const server = await startServer(protocol.port, mounts, options);
  const baseUrl = `http://127.0.0.1:${server.port}`;
  const transport = protocol.transport(baseUrl);
  return {
    server,
    baseUrl,
    state: createClient(StateService, transport),
    pubsub: createClient(PubSubService, transport),
  };
}
