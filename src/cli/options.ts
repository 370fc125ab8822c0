/** Flags that several commands have. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { readBoolean } from "../config/booleans.ts";

/** Which sidecar a command talks to. */
export interface SidecarOptions {
  readonly daprGrpcPort?: number;
  readonly appId?: string;
  readonly dataDir?: string;
}

/** Adds the flags that tell which sidecar is meant. */
export function addSidecarOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--grpc-port, --dapr-grpc-port <port>", "gRPC port of the sidecar")
        .argParser(portNumber)
        .helpGroup("Sidecar:"),
    )
    .addOption(new Option("--app-id <id>", "the sidecar of this application").helpGroup("Sidecar:"))
    .addOption(
      new Option(
        "--data-dir <path>",
        "data directory of the project, where sidecars are looked for",
      ).helpGroup("Sidecar:"),
    );
}

/** The flag that names a component. */
export function componentOption(block: "state" | "pubsub"): Option {
  return new Option("--component <name>", `the ${block} component (default: "${block}", or the only one)`);
}

/** The flag for output that programs read. */
export function jsonOption(what: string): Option {
  return new Option("--json", `print ${what}`);
}

/** 0 to 65535. */
export function portNumber(value: string): number {
  return wholeNumber(0, 65_535)(value);
}

/** Reads a whole number in a range, both ends included. */
export function wholeNumber(minimum: number, maximum = Number.MAX_SAFE_INTEGER): (value: string) => number {
  return (value) => {
    const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (number >= minimum && number <= maximum) return number;
    const range = maximum === Number.MAX_SAFE_INTEGER ? `${minimum} or more` : `${minimum} to ${maximum}`;
    throw new InvalidArgumentError(`Expected a whole number, ${range}.`);
  };
}

/** Gathers a flag that may be given several times. */
export function gather(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}

/** The words between commas. */
export function commaSeparated(value: string): string[] {
  return value
    .split(",")
    .map((each) => each.trim())
    .filter((each) => each !== "");
}

/** Gathers `name=value`. */
export function gatherPairs(value: string, before: Readonly<Record<string, string>> | undefined) {
  const at = value.indexOf("=");
  if (at <= 0) throw new InvalidArgumentError("Expected name=value.");
  return { ...before, [value.slice(0, at)]: value.slice(at + 1) };
}

/** "true" and "false", as in --enable-metrics=false; alone, the flag is true. */
export function onOff(value: string): boolean {
  const on = readBoolean(value);
  if (on !== undefined) return on;
  throw new InvalidArgumentError('Expected "true" or "false".');
}

const unitsMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of a duration such as "30s", "500ms" or "1h30m"; a bare number is seconds. */
export function durationMs(value: string): number {
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value) * 1000;
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(value)) {
    throw new InvalidArgumentError('Expected a duration such as "30s" or "1h30m".');
  }
  const parts = value.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g);
  return [...parts].reduce((total, [, number, unit]) => total + Number(number) * unitsMs[unit!]!, 0);
}

const unitsBytes: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
};

/** Bytes of a size such as "4Mi", "64Ki" or "1000000". */
export function sizeBytes(value: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmg]i?)?b?$/i.exec(value);
  const bytes = match ? Math.round(Number(match[1]) * unitsBytes[(match[2] ?? "").toLowerCase()]!) : 0;
  if (bytes > 0) return bytes;
  throw new InvalidArgumentError('Expected a number of bytes such as "4Mi".');
}

/** A time in RFC 3339, as a Date. */
export function instant(value: string): Date {
  const time = new Date(value);
  if (/^\d{4}-\d\d-\d\d/.test(value) && !Number.isNaN(time.getTime())) return time;
  throw new InvalidArgumentError("Expected a time such as 2030-01-31T12:00:00Z.");
}
