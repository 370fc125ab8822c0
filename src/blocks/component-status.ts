/** What a component that is a process of its own answers when it fails. */
import { Code } from "@connectrpc/connect";

/** What a component wants the client of an HTTP API to be answered, as Dapr's components say it. */
export interface AskedAnswer {
  /** The HTTP status. */
  readonly status: number;
  /** The code of the error in the body. */
  readonly tag: string;
  /** Of the ErrorInfo among the details. */
  readonly reason: string;
  readonly domain: string;
}

/** What a status says beside its message. */
export interface StatusParts {
  readonly code: Code;
  /** The fields of a BadRequest among the details. */
  readonly fields: readonly string[];
  /** Undefined where the component asks for nothing. */
  readonly asked: AskedAnswer | undefined;
  /** What the call threw. */
  readonly cause: unknown;
}

/** A gRPC status other than OK. Its message is the component's own, and goes into the log. */
export class ComponentStatus extends Error {
  override readonly name = "ComponentStatus";
  readonly code: Code;
  readonly fields: readonly string[];
  readonly asked: AskedAnswer | undefined;

  constructor(message: string, { code, fields, asked, cause }: StatusParts) {
    super(message, { cause });
    this.code = code;
    this.fields = fields;
    this.asked = asked;
  }

  /** Status and message in one line, as Go writes them. */
  get text(): string {
    return `${this.asked ? "api" : "rpc"} error: code = ${Code[this.code]} desc = ${this.message}`;
  }
}

/** The status that a fault comes from; undefined when it comes from something else. */
export function componentStatusOf(error: unknown): ComponentStatus | undefined {
  if (error instanceof ComponentStatus) return error;
  return error instanceof Error ? componentStatusOf(error.cause) : undefined;
}
