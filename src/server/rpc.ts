/** One method on one server: everything about its calls that does not change from call to call. */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { type Log, logTrace } from "../telemetry/log.ts";
import { codeNames, type RpcMetrics, rpcMetrics } from "../telemetry/rpc-metrics.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { Span, TraceHeaders } from "../telemetry/tracing.ts";
import type { TokenRefusals } from "./authentication.ts";
import { isServerFailure } from "./errors.ts";
import { healthTypeName } from "./health.ts";
import type { MethodCodec, Mount } from "./mount.ts";

/** What a handler takes and gives, without the types of its method: the mount has checked them. */
export type Handler = (input: unknown, context: HandlerContext) => unknown;

/** A message, or what can be made into one. */
export type MessageInit = Message | Record<string, unknown>;

/** One method as a server serves it. */
export class Rpc {
  readonly method: DescMethod;
  /** Such as "outrider.state.v1.StateService/Get". */
  readonly name: string;
  readonly handler: Handler;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly withoutToken: boolean;
  readonly tokenRefusals: TokenRefusals | undefined;
  readonly codec: MethodCodec | undefined;
  readonly telemetry: Telemetry;
  #metrics: RpcMetrics | undefined;
  /** Where its calls are logged, if they are. */
  readonly #callLog: Log | undefined;

  constructor(mount: Mount, method: DescMethod, telemetry: Telemetry) {
    this.method = method;
    this.name = `${mount.service.typeName}/${method.name}`;
    this.handler = handlerOf(mount, method);
    this.requestStream = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
    this.responseStream = method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming";
    this.withoutToken = mount.withoutToken;
    this.tokenRefusals = mount.tokenRefusals;
    this.codec = mount.codecs[method.localName];
    this.telemetry = telemetry;
    const { callLog, log } = telemetry;
    const omitted = callLog?.omitHealthChecks && mount.service.typeName === healthTypeName;
    if (callLog && !omitted) this.#callLog = log.child({ scope: "api" });
  }

  /** Made when the method is called first: most of a large API never is. */
  get metrics(): RpcMetrics {
    this.#metrics ??= rpcMetrics(this.telemetry.metrics, this.method.parent.typeName, this.method.name);
    return this.#metrics;
  }

  /** What is counted, told and logged when a call has ended. `error` is undefined for one that went well. */
  ended(startedAt: number, error: ConnectError | undefined, span: Span | undefined): void {
    const code = error?.code ?? 0;
    this.metrics.end(startedAt, code);
    if (this.#callLog) {
      const durationMs = Math.round((performance.now() - startedAt) * 1000) / 1000;
      const trace = span ? logTrace(span.headers) : {};
      this.#callLog.info(
        { rpc: this.name, code: codeNames[code], duration_ms: durationMs, ...trace },
        "call",
      );
    }
    if (span) endSpan(span, error);
  }

  /** Whether a call stays open while messages come and go. */
  get streams(): boolean {
    return this.requestStream || this.responseStream;
  }

  /** Begins the span of a call; undefined while nothing is traced. */
  startSpan(parent: TraceHeaders, system: string): Span | undefined {
    const { tracing } = this.telemetry;
    if (!tracing.enabled) return undefined;
    return tracing.startSpan(this.name, "server", parent, {
      "rpc.system": system,
      "rpc.service": this.method.parent.typeName,
      "rpc.method": this.method.name,
    });
  }
}

function endSpan(span: Span, error: ConnectError | undefined): void {
  span.set("rpc.grpc.status_code", error?.code ?? 0);
  span.end(error !== undefined && isServerFailure(error.code) ? error : undefined);
}

function handlerOf({ implementation, service }: Mount, method: DescMethod): Handler {
  const handler = (implementation as Record<string, Handler | undefined>)[method.localName];
  if (handler) return handler.bind(implementation);
  return () => {
    throw new ConnectError(`${service.typeName}.${method.name} is not implemented`, Code.Unimplemented);
  };
}
