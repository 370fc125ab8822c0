/** Log lines in the form that daprd gives them, for whoever reads a daprd's output. */
import { hostname } from "node:os";
import { version } from "../../version.ts";

/** What takes the lines, each with its line end. */
type Destination = { write(line: string): void };

type Fields = Readonly<Record<string, unknown>>;

/** daprd's names of levels that have another here. */
const levelNames: Readonly<Record<string, string>> = { warn: "warning" };
/** The scope of lines that name none. */
const usualScope = "dapr.runtime";
const httpCalled = { msg: "HTTP API Called", scope: "dapr.runtime.http-info" };
const grpcCalled = { msg: "gRPC API Called", scope: "dapr.runtime.grpc.api-info" };
/** Text that stands in a line without quotes. */
const plain = /^[\w.\-/@^+]*$/;

/** Takes the log's lines of JSON, and passes them on as daprd's text, or as its JSON. */
export function daprdLines(asJson: boolean, destination: Destination): Destination {
  const common = { instance: hostname(), type: "log", ver: version };
  return {
    write(line) {
      const { time, level, msg = "", ...given } = asDaprd(JSON.parse(line) as Fields);
      const named = levelNames[String(level)] ?? level;
      const fields = { scope: usualScope, ...withError(given), ...common };
      destination.write(
        asJson
          ? jsonLine({ ...fields, level: named, msg, time })
          : textLine({ time, level: named, msg }, fields),
      );
    },
  };
}

/** Lines about calls have a sentence and names of their own in daprd. */
function asDaprd(line: Fields): Fields {
  if (line["scope"] !== "api" || line["msg"] !== "call") return line;
  const { http, status, rpc, code, duration_ms, ...others } = line;
  const duration = Math.floor(Number(duration_ms));
  return http === undefined
    ? { ...others, ...grpcCalled, method: `/${rpc}`, code, duration }
    : { ...others, ...httpCalled, method: http, code: status, duration };
}

/** `error` as daprd has it: what an error says, without its stack. */
function withError({ err, ...fields }: Record<string, unknown>): Record<string, unknown> {
  return err === undefined ? fields : { ...fields, error: messageOf(err) };
}

function messageOf(error: unknown): string {
  if (typeof error !== "object" || error === null) return String(error);
  const { message, cause } = error as { message?: unknown; cause?: unknown };
  const own = typeof message === "string" ? message : JSON.stringify(error);
  return cause === undefined ? own : `${own}: ${messageOf(cause)}`;
}

function jsonLine(fields: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify(Object.fromEntries(sorted(fields)))}\n`;
}

/** `key=value` for each, first those that begin every line, then the others by name. */
function textLine(
  first: Readonly<Record<string, unknown>>,
  fields: Readonly<Record<string, unknown>>,
): string {
  const all = [...Object.entries(first), ...sorted(fields)];
  return `${all.map(([key, value]) => `${key}=${textOf(value)}`).join(" ")}\n`;
}

function sorted(fields: Readonly<Record<string, unknown>>): [string, unknown][] {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

function textOf(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return plain.test(text) ? text : JSON.stringify(text);
}
