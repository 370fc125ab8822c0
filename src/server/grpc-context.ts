/** What a handler on the gRPC port knows of its call: made when it is asked for, and not before. */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { ContextKey, ContextValues, HandlerContext } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import { checkedTrace, noTrace, type TraceHeaders, traceKey } from "../telemetry/tracing.ts";
import { headersOf, metadataOf, textOf } from "./grpc-metadata.ts";

/** The context of one call. A call that looks at nothing of it pays for one small object. */
export class GrpcContext implements HandlerContext {
  readonly method: DescMethod;
  readonly #metadata: grpc.Metadata;
  /** Milliseconds since 1970; Infinity for none. */
  readonly #deadline: number;
  #abort: AbortController | undefined;
  #aborted: Error | undefined;
  #requestHeader: Headers | undefined;
  #responseHeader: Headers | undefined;
  #responseTrailer: Headers | undefined;
  #values: ContextValues | undefined;

  constructor(method: DescMethod, metadata: grpc.Metadata, deadline: grpc.Deadline) {
    this.method = method;
    this.#metadata = metadata;
    this.#deadline = Number(deadline);
  }

  get service(): DescService {
    return this.method.parent;
  }

  get protocolName(): string {
    return "grpc";
  }

  get requestMethod(): string {
    return "POST";
  }

  get url(): string {
    return `/${this.method.parent.typeName}/${this.method.name}`;
  }

  timeoutMs(): number | undefined {
    return this.#deadline === Number.POSITIVE_INFINITY ? undefined : this.#deadline - Date.now();
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#aborted) this.#abort.abort(this.#aborted);
    }
    return this.#abort.signal;
  }

  get requestHeader(): Headers {
    this.#requestHeader ??= headersOf(this.#metadata);
    return this.#requestHeader;
  }

  get responseHeader(): Headers {
    this.#responseHeader ??= new Headers();
    return this.#responseHeader;
  }

  get responseTrailer(): Headers {
    this.#responseTrailer ??= new Headers();
    return this.#responseTrailer;
  }

  get values(): ContextValues {
    this.#values ??= new GrpcContextValues(this.#metadata);
    return this.#values;
  }

  /** Aborts the signal, also one that nobody has asked for yet. The first reason stays. */
  abort(reason: Error): void {
    if (this.#aborted) return;
    this.#aborted = reason;
    this.#abort?.abort(reason);
  }

  /** Why the signal has aborted; undefined while it has not. */
  get aborted(): Error | undefined {
    return this.#aborted;
  }

  /** Aborts the signal of a call that is over, for those who still hold it. */
  end(): void {
    if (this.#abort) this.abort(callIsOver);
  }

  /** Whether the deadline is the reason for an end at this moment. Timers may be a millisecond early. */
  get expired(): boolean {
    return Date.now() + 1 >= this.#deadline;
  }

  /** The headers that the handler has set; undefined when it has set none. */
  header(): grpc.Metadata | undefined {
    return this.#responseHeader && metadataOf(this.#responseHeader);
  }

  /** The trailers that the handler has set; null when it has set none. */
  trailer(): grpc.Metadata | null {
    return this.#responseTrailer ? metadataOf(this.#responseTrailer) : null;
  }
}

/**
 * One for all calls: to make an error costs more than to abort a signal. No ConnectError, which has `Headers`:
 * with the first of them Node loads its whole HTTP client. Connect takes this one for CANCELED, too.
 */
const callIsOver = new DOMException("the call is over", "AbortError");

/** The trace headers of request metadata, without making `Headers` of it. */
export function traceOfMetadata(metadata: grpc.Metadata): TraceHeaders {
  return checkedTrace(
    textOf(metadata, "traceparent"),
    textOf(metadata, "tracestate"),
    textOf(metadata, "baggage"),
  );
}

/** Equal to `noTrace` and not the same: says that the headers have been looked at. */
const lookedAndNone: TraceHeaders = Object.freeze({ ...noTrace });

class GrpcContextValues implements ContextValues {
  readonly #metadata: grpc.Metadata;
  /** The one value that nearly every call has. */
  #trace: TraceHeaders | undefined;
  #others: Map<symbol, unknown> | undefined;

  constructor(metadata: grpc.Metadata) {
    this.#metadata = metadata;
  }

  get<T>(key: ContextKey<T>): T {
    if (key.id === traceKey.id) {
      if (this.#trace === undefined) {
        const trace = traceOfMetadata(this.#metadata);
        this.#trace = trace === noTrace ? lookedAndNone : trace;
      }
      return this.#trace as T;
    }
    return this.#others?.has(key.id) ? (this.#others.get(key.id) as T) : key.defaultValue;
  }

  set<T>(key: ContextKey<T>, value: T): this {
    if (key.id === traceKey.id) {
      this.#trace = value as TraceHeaders;
    } else {
      this.#others ??= new Map();
      this.#others.set(key.id, value);
    }
    return this;
  }

  delete(key: ContextKey<unknown>): this {
    if (key.id === traceKey.id) this.#trace = undefined;
    else this.#others?.delete(key.id);
    return this;
  }
}
