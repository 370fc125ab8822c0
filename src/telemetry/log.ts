/** The log: lines of JSON, or text for people, with trace ids and without secrets. */
import { pino } from "pino";
import pretty from "pino-pretty";
import { cleaner, plainErrors } from "./redaction.ts";
import { parseTraceparent, type TraceHeaders } from "./tracing.ts";

/** What code that logs needs of a log. First the fields, then the sentence. */
export type Log = Pick<pino.Logger, "debug" | "info" | "warn" | "error" | "child">;

/** Dapr's levels. Each shows itself and what stands after it. */
export const logLevels = ["debug", "info", "warn", "error", "fatal"] as const;
export type LogLevel = (typeof logLevels)[number];

/** How a log is made. */
export interface LogOptions {
  readonly level: LogLevel;
  /** "json": an object a line. "pretty": text for people. */
  readonly format: "json" | "pretty";
  /** Takes whole lines, each with its line end. */
  readonly destination: pino.DestinationStream;
  /** Colours in "pretty". Default false. */
  readonly color?: boolean;
  /** The values of all secrets that have been resolved so far: none of them gets into a line. */
  readonly secrets: () => ReadonlySet<string>;
  /** In every line. */
  readonly base: { readonly app_id: string; readonly instance: string };
}

/** Makes the log of a sidecar. */
export function createLog(options: LogOptions): pino.Logger {
  const { level, format, base, secrets } = options;
  const destination = format === "pretty" ? prettyStream(options) : options.destination;
  return pino(
    {
      level,
      base,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: plainErrors },
      // plainErrors has done it; pino's own would copy every property of an error.
      serializers: { err: (value: unknown) => value },
      hooks: { streamWrite: cleaner(secrets) },
    },
    destination,
  );
}

/** The fields that tie a line to a trace, for `log.child(logTrace(headers))`; none without a trace. */
export function logTrace(headers: TraceHeaders): { trace_id?: string; span_id?: string } {
  const parent = parseTraceparent(headers.traceparent);
  return parent ? { trace_id: parent.traceId, span_id: parent.spanId } : {};
}

function prettyStream({ color = false, destination }: LogOptions): pino.DestinationStream {
  let format: ((line: string) => string) | undefined;
  return {
    write(line) {
      // With the first line: a sidecar that starts well has none, and the bundle loads the library when it is used.
      format ??= formatter(color);
      destination.write(format === undefined ? line : format(line));
    },
  };
}

/** Undefined while the library's file cannot be read: whoever writes a line must not fail because of that. */
function formatter(colorize: boolean): ((line: string) => string) | undefined {
  try {
    return pretty.prettyFactory({ colorize, ignore: "app_id,instance" });
  } catch {
    return undefined;
  }
}
