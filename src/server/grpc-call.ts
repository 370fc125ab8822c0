/**
 * One call on the gRPC port, from its headers to its status.
 *
 * grpc-js offers two levels: Node streams and callbacks, and below them the calls that its
 * interceptors see. This works on the lower one, which does without a stream object for each
 * call, decodes nothing that nobody reads, and sends the answer and the status in one write.
 */
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import { fault } from "../faults.ts";
import type { Span } from "../telemetry/tracing.ts";
import { traceKey } from "../telemetry/tracing.ts";
import type { ApiTokens } from "./authentication.ts";
import { tokenHeaders } from "./authentication.ts";
import { errorForClient } from "./errors.ts";
import { decode, encode } from "./grpc-codec.ts";
import { GrpcContext, traceOfMetadata } from "./grpc-context.ts";
import { metadataBytes, statusOf, textOf } from "./grpc-metadata.ts";
import { GrpcRequests } from "./grpc-requests.ts";
import type { Limits } from "./limits.ts";
import type { MessageInit, Rpc } from "./rpc.ts";

/** What the calls of one server share. */
export interface GrpcCalls {
  readonly limits: Limits;
  readonly tokens: ApiTokens;
  /** Every call that has begun and not ended. */
  readonly open: Set<GrpcCall>;
  /** How many of them are streams. */
  openStreams: number;
  /** Why no call goes on; undefined while calls may. */
  stopping: ConnectError | undefined;
}

const ok: grpc.StatusObject = { code: 0, details: "OK", metadata: null as unknown as grpc.Metadata };
const nothing = () => {};

/** Serves one call. It listens to what grpc-js receives, and hands the handler a context. */
export class GrpcCall {
  readonly #raw: grpc.ServerInterceptingCallInterface;
  readonly #rpc: Rpc;
  readonly #calls: GrpcCalls;
  #context!: GrpcContext;
  #span: Span | undefined;
  #startedAt = 0;
  #ended = false;
  /** The request of a method that takes one, until the client has half-closed. */
  #request: Uint8Array | undefined;
  /** The requests of a method that takes a stream. */
  #requests: GrpcRequests | undefined;
  #output: AsyncIterator<MessageInit> | undefined;
  #headerSent = false;
  /** Bytes that were given to grpc-js and have not left it. */
  #unsentBytes = 0;
  #wakeWriter: (() => void) | undefined;

  constructor(raw: grpc.ServerInterceptingCallInterface, rpc: Rpc, calls: GrpcCalls) {
    this.#raw = raw;
    this.#rpc = rpc;
    this.#calls = calls;
  }

  onReceiveMetadata(metadata: grpc.Metadata): void {
    const rpc = this.#rpc;
    this.#context = new GrpcContext(rpc.method, metadata, this.#raw.getDeadline());
    this.#startedAt = rpc.metrics.begin();
    this.#calls.open.add(this);
    if (rpc.streams) this.#calls.openStreams++;
    if (rpc.telemetry.tracing.enabled) this.#trace(metadata);
    const refusal = this.#refusal(metadata);
    if (refusal) {
      this.#end(refusal);
    } else if (rpc.requestStream) {
      this.#requests = new GrpcRequests(() => this.#raw.startRead());
      this.#invoke(this.#requests);
    } else {
      this.#raw.startRead();
    }
  }

  onReceiveMessage(bytes: Uint8Array): void {
    if (this.#ended) return;
    if (this.#requests) {
      this.#deliver(this.#requests, bytes);
    } else if (this.#request) {
      this.#end(
        new ConnectError(`${this.#rpc.name} takes one message, and a second came`, Code.Unimplemented),
      );
    } else {
      this.#request = bytes;
      this.#raw.startRead();
    }
  }

  onReceiveHalfClose(): void {
    if (this.#ended) return;
    if (this.#requests) {
      this.#requests.end();
    } else if (this.#request) {
      const bytes = this.#request;
      this.#request = undefined;
      try {
        this.#invoke(decode(this.#rpc, bytes));
      } catch (error) {
        this.#fail(error);
      }
    } else {
      this.#end(new ConnectError(`${this.#rpc.name} takes one message, and none came`, Code.Unimplemented));
    }
  }

  /** The call is over for grpc-js: finished, reset by the client, or past its deadline. */
  onCancel(): void {
    if (this.#ended || this.#context === undefined) return;
    this.#close(
      this.#context.expired
        ? fault("DEADLINE_EXCEEDED", "the deadline of the call has passed")
        : fault("CANCELLED", "the client has ended the call"),
    );
  }

  /** Aborts the handler's signal and lets it go on. */
  abort(reason: ConnectError): void {
    this.#context.abort(reason);
  }

  /** Ends the call with an error, whatever its handler does. */
  stop(reason: ConnectError): void {
    if (!this.#ended) this.#end(reason);
  }

  #refusal(metadata: grpc.Metadata): ConnectError | undefined {
    const { limits, tokens, stopping, openStreams } = this.#calls;
    const bytes = metadataBytes(metadata);
    if (bytes > limits.maxHeaderBytes) {
      return fault("TOO_LARGE", `metadata of ${bytes} bytes is over the limit of ${limits.maxHeaderBytes}`);
    }
    if (tokens.required && !this.#rpc.withoutToken) {
      const token = tokenHeaders.map((name) => textOf(metadata, name)).find(Boolean);
      const refusal = tokens.refusal(token, this.#rpc.tokenRefusals);
      if (refusal) return refusal;
    }
    if (this.#rpc.streams && openStreams > limits.maxOpenStreams) {
      return fault("TOO_MANY_STREAMS", `the server has ${limits.maxOpenStreams} streams open, its limit`);
    }
    if (stopping) this.#context.abort(stopping);
    return undefined;
  }

  #trace(metadata: grpc.Metadata): void {
    this.#span = this.#rpc.startSpan(traceOfMetadata(metadata), "grpc");
    if (this.#span) this.#context.values.set(traceKey, this.#span.headers);
  }

  #deliver(requests: GrpcRequests, bytes: Uint8Array): void {
    let message: Message;
    try {
      message = decode(this.#rpc, bytes);
    } catch (error) {
      this.#fail(error);
      return;
    }
    requests.deliver(message);
  }

  #invoke(input: unknown): void {
    if (this.#rpc.responseStream) void this.#stream(input);
    else void this.#answer(input);
  }

  async #answer(input: unknown): Promise<void> {
    try {
      const message = await this.#rpc.handler(input, this.#context);
      if (this.#ended) return;
      this.#send(message as MessageInit, nothing);
      this.#end(undefined);
    } catch (error) {
      this.#fail(error);
    }
  }

  async #stream(input: unknown): Promise<void> {
    try {
      const messages = this.#rpc.handler(input, this.#context) as AsyncIterable<MessageInit>;
      const output = messages[Symbol.asyncIterator]();
      this.#output = output;
      const { streamBufferBytes } = this.#calls.limits;
      for (;;) {
        const next = await output.next();
        if (next.done) {
          this.#output = undefined;
          if (!this.#ended) this.#end(undefined);
          return;
        }
        if (this.#ended) return;
        const bytes = this.#send(next.value, () => this.#sent(bytes));
        this.#unsentBytes += bytes;
        if (this.#unsentBytes > streamBufferBytes) await this.#room();
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #send(message: MessageInit, sent: () => void): number {
    const bytes = encode(this.#rpc, message);
    const { maxMessageBytes } = this.#calls.limits;
    if (bytes.length > maxMessageBytes) {
      throw fault("TOO_LARGE", `an answer of ${bytes.length} bytes is over the limit of ${maxMessageBytes}`);
    }
    if (!this.#headerSent) {
      this.#headerSent = true;
      const header = this.#context.header();
      if (header) this.#raw.sendMetadata(header);
    }
    this.#raw.sendMessage(bytes, sent);
    return bytes.length;
  }

  /** Waits until half of what may wait for the network has left. */
  #room(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wakeWriter = resolve;
    return promise;
  }

  #sent(bytes: number): void {
    this.#unsentBytes -= bytes;
    if (this.#wakeWriter && this.#unsentBytes <= this.#calls.limits.streamBufferBytes / 2) this.#wake();
  }

  #wake(): void {
    this.#wakeWriter?.();
    this.#wakeWriter = undefined;
  }

  #fail(thrown: unknown): void {
    // What a handler throws because its call is over is no news.
    if (this.#ended) return;
    // Nor is what it throws because its signal has aborted.
    const { aborted } = this.#context;
    const error = aborted && !(thrown instanceof ConnectError) ? aborted : thrown;
    this.#end(errorForClient(error, this.#rpc.name, this.#rpc.telemetry.log));
  }

  /** Sends the status: OK, or the error's. */
  #end(error: ConnectError | undefined): void {
    if (error) {
      this.#raw.sendStatus(statusOf(error));
    } else {
      const metadata = this.#context.trailer();
      this.#raw.sendStatus(metadata ? { ...ok, metadata } : ok);
    }
    this.#close(error);
  }

  /** Lets go of everything. The handler may still be at work, and learns of it by its signal. */
  #close(error: ConnectError | undefined): void {
    this.#ended = true;
    this.#calls.open.delete(this);
    if (this.#rpc.streams) this.#calls.openStreams--;
    if (error) {
      this.#context.abort(error);
      this.#requests?.fail(error);
      this.#return();
    } else {
      this.#context.end();
      this.#requests?.end();
    }
    this.#wake();
    this.#rpc.ended(this.#startedAt, error, this.#span);
  }

  #return(): void {
    const output = this.#output;
    this.#output = undefined;
    output?.return?.().then(nothing, (error: unknown) => {
      this.#rpc.telemetry.log.debug({ err: error, rpc: this.#rpc.name }, "a handler failed after its call");
    });
  }
}
