/** What a component that is a process of its own answers when it fails. */
import { Code, type ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";

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

/** A gRPC status other than OK. Its message is the component's own, and goes into the log. */
export class ComponentStatus extends Error {
  override readonly name = "ComponentStatus";
  readonly code: Code;
  /** The fields of a BadRequest among the details. */
  readonly fields: readonly string[];
  /** Undefined where the component asks for nothing. */
  readonly asked: AskedAnswer | undefined;

  constructor(status: ConnectError) {
    super(status.rawMessage, { cause: status });
    this.code = status.code;
    this.fields = status
      .findDetails(BadRequestSchema)
      .flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
    this.asked = askedBy(status);
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

/** Dapr's components mark an ErrorInfo that says what to answer. */
function askedBy(status: ConnectError): AskedAnswer | undefined {
  const infos = status.findDetails(ErrorInfoSchema);
  const [info] = infos;
  if (!info || infos.length !== status.details.length || infos.length > 1) return undefined;
  const { metadata, reason, domain } = info;
  const httpStatus = Number(metadata["http_code"]);
  if (metadata["kit_error"] !== "true" || !Number.isInteger(httpStatus)) return undefined;
  return { status: httpStatus, tag: metadata["tag"] ?? "", reason, domain };
}
