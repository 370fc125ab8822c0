/**
 * The gRPC port: HTTP/2 without TLS, by @grpc/grpc-js.
 *
 * This file and `grpc-*.ts` beside it know the library, and nothing else does.
 */
import type { Http2Server, IncomingHttpHeaders } from "node:http2";
import { createServer } from "node:net";
import * as grpc from "@grpc/grpc-js";
import { fault } from "../faults.ts";
import { ApiTokens } from "./authentication.ts";
import { errorForClient } from "./errors.ts";
import { GrpcCall, type GrpcCalls } from "./grpc-call.ts";
import { statusOf } from "./grpc-metadata.ts";
import { Methods } from "./grpc-methods.ts";
import { defaultLimits, type Limits } from "./limits.ts";
import { Connections, type Listening, listen } from "./listening.ts";
import type { ServerOptions } from "./mount.ts";
import { longestTimeoutMs, timeoutMsOf } from "./timeouts.ts";

/** How long the last statuses may take to leave when calls are ended by force, in milliseconds. */
const partingMs = 200;

/** Serves mounts over gRPC. Rejects when the address cannot be had. */
export async function startGrpcServer(options: ServerOptions): Promise<Listening> {
  const limits = { ...defaultLimits, ...options.limits };
  const calls: GrpcCalls = {
    limits,
    tokens: new ApiTokens(options.apiTokens),
    open: new Set(),
    openStreams: 0,
    stopping: undefined,
  };
  const methods = new Methods(options.telemetry);
  // It would print what clients send in wrong headers, as often as they like.
  grpc.setLogVerbosity(grpc.logVerbosity.NONE);
  const server = new grpc.Server({
    ...channelOptions(limits),
    // Every path that grpc-js routes is one of ours.
    interceptors: [(method, raw) => new TakenOver(raw, method.path, methods, calls)],
  });
  for (const mounted of options.mounts) methods.add(mounted);
  // Of what else it is told, grpc-js uses nothing: every call is taken over.
  for (const path of methods.paths) server.register(path, neverRun, same, same, "unary");
  // grpc-js can be given connections. So the sockets are ours, to count and to close.
  const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  correctTimeouts(server);
  const connections = new Connections();
  const listener = createServer({ noDelay: true }, (socket) => {
    connections.add(socket);
    injector.injectConnection(socket);
  });
  const { address, port } = await listen(listener, options.host, options.port);

  const abortAll = () => {
    calls.stopping = fault("SHUTTING_DOWN", "the sidecar is going away", { retryAfterMs: 1000 });
    for (const call of calls.open) call.abort(calls.stopping);
  };
  options.shutdownSignal?.addEventListener("abort", abortAll, { once: true });
  if (options.shutdownSignal?.aborted) abortAll();

  return {
    name: options.name ?? "grpc",
    address,
    port,
    async close(graceMs) {
      listener.close();
      // Tells every client to go elsewhere for new calls, and ends each connection with its last call.
      injector.destroy();
      if (!(await connections.closed(graceMs))) {
        const reason = fault("SHUTTING_DOWN", "the sidecar went away", { retryAfterMs: 1000 });
        for (const call of [...calls.open]) call.stop(reason);
        await connections.closed(partingMs);
        connections.destroy();
        await connections.closed(partingMs);
      }
      options.shutdownSignal?.removeEventListener("abort", abortAll);
      server.forceShutdown();
    },
  };
}

function channelOptions(limits: Limits): grpc.ServerOptions {
  return {
    "grpc.max_receive_message_length": limits.maxMessageBytes,
    // Checked where a typed error can still be sent.
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": limits.maxConcurrentStreams,
    "grpc.keepalive_time_ms": limits.keepaliveTimeMs,
    "grpc.keepalive_timeout_ms": limits.keepaliveTimeoutMs,
    "grpc.max_connection_idle_ms": limits.maxConnectionIdleMs,
    // Its counters cost time in every call and show nothing that the metrics do not.
    "grpc.enable_channelz": 0,
  };
}

/** A call that grpc-js would run a handler for; ours runs instead. */
class TakenOver extends grpc.ServerInterceptingCall {
  readonly #raw: grpc.ServerInterceptingCallInterface;
  readonly #path: string;
  readonly #methods: Methods;
  readonly #calls: GrpcCalls;

  constructor(raw: grpc.ServerInterceptingCallInterface, path: string, methods: Methods, calls: GrpcCalls) {
    super(raw);
    this.#raw = raw;
    this.#path = path;
    this.#methods = methods;
    this.#calls = calls;
  }

  override start(): void {
    const rpc = this.#methods.get(this.#path);
    if (rpc) this.#raw.start(new GrpcCall(this.#raw, rpc, this.#calls));
    else void this.#startLate();
  }

  /** What the client sends meanwhile waits in grpc-js. */
  async #startLate(): Promise<void> {
    try {
      const rpc = await this.#methods.load(this.#path);
      this.#raw.start(new GrpcCall(this.#raw, rpc, this.#calls));
    } catch (error) {
      const rpc = this.#path.slice(1);
      this.#raw.sendStatus(statusOf(errorForClient(error, rpc, this.#methods.telemetry.log)));
    }
  }
}

/**
 * grpc-js (1.14) takes a deadline of more than 24.8 days for another one, which may have passed. Nobody can
 * tell it from none, so none is what it becomes. There is no way to the headers but this private field.
 */
function correctTimeouts(server: grpc.Server): void {
  const http2Servers = server["http2Servers"] as Map<Http2Server, unknown>;
  for (const http2Server of http2Servers.keys()) {
    http2Server.prependListener("stream", (_stream: unknown, headers: IncomingHttpHeaders) => {
      const timeout = headers["grpc-timeout"];
      if (timeout !== undefined && timeoutMsOf(String(timeout)) > longestTimeoutMs) {
        delete headers["grpc-timeout"];
      }
    });
  }
}

function same(bytes: Buffer): Buffer {
  return bytes;
}

function neverRun(): void {}
