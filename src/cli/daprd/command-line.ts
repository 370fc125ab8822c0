/** daprd's command line, read as Go reads it. */
import { readBoolean } from "../../config/booleans.ts";

/** Flags as they were given, by name. */
export class CommandLine {
  /** Names of flags that daprd does not have, with their dashes. */
  readonly unknown: readonly string[];
  readonly #given: ReadonlyMap<string, readonly string[]>;

  constructor(given: ReadonlyMap<string, readonly string[]>, unknown: readonly string[]) {
    this.#given = given;
    this.unknown = unknown;
  }

  /** Whether it was given at all. */
  has(name: FlagName): boolean {
    return this.#given.has(name);
  }

  /** The last value; undefined when none was given. */
  text(name: FlagName): string | undefined {
    return this.#given.get(name)?.at(-1);
  }

  /** Every value, in order; each may have several, separated by commas. */
  list(name: FlagName): readonly string[] {
    return (this.#given.get(name) ?? [])
      .flatMap((values) => values.split(","))
      .filter((value) => value !== "");
  }

  /** Throws FlagError for what Go does not take for a boolean. */
  flag(name: FlagName, usual: boolean): boolean {
    return this.value(name, readBoolean, "true or false") ?? usual;
  }

  /** A whole number. Empty text is as if it were not given. Throws FlagError. */
  integer(name: FlagName, usual: number): number {
    const read = (text: string) => (/^[+-]?\d+$/.test(text) ? Number(text) : undefined);
    return this.value(name, read, "a whole number") ?? usual;
  }

  /** 0 to 65535. Undefined when it was not given. Throws FlagError. */
  port(name: FlagName): number | undefined {
    const number = this.integer(name, -1);
    if (number === -1) return undefined;
    if (number >= 0 && number <= 65_535) return number;
    throw new FlagError(name, String(number), "expected a port");
  }

  /** Whatever `read` makes of the text; undefined when it was not given. Throws FlagError when it makes nothing. */
  value<T>(name: FlagName, read: (text: string) => T | undefined, expected: string): T | undefined {
    const text = this.text(name);
    if (text === undefined || text === "") return undefined;
    const value = read(text);
    if (value !== undefined) return value;
    throw new FlagError(name, text, `expected ${expected}`);
  }
}

/** A flag that makes no sense. */
export class FlagError extends Error {
  override readonly name = "FlagError";

  constructor(name: string, value: string, why: string) {
    super(`invalid argument "${value}" for "--${name}" flag: ${why}`);
  }
}

/** Flags that need no value: alone, they are true. */
const booleans = [
  "app-ssl",
  "build-info",
  "disable-builtin-k8s-secret-store",
  "enable-api-logging",
  "enable-app-health-check",
  "enable-metrics",
  "enable-mtls",
  "enable-profiling",
  "log-as-json",
  "version",
  "wait",
] as const;

/** Flags with a value. */
const valued = [
  "actors-disseminate-timeout",
  "actors-service",
  "allowed-origins",
  "app-binding-options-timeout",
  "app-channel-address",
  "app-health-check-path",
  "app-health-probe-interval",
  "app-health-probe-timeout",
  "app-health-threshold",
  "app-id",
  "app-max-concurrency",
  "app-port",
  "app-protocol",
  "components-path",
  "config",
  "control-plane-address",
  "control-plane-namespace",
  "control-plane-trust-domain",
  "dapr-block-shutdown-duration",
  "dapr-graceful-shutdown-seconds",
  "dapr-grpc-port",
  "dapr-http-max-request-size",
  "dapr-http-port",
  "dapr-http-read-buffer-size",
  "dapr-internal-grpc-listen-address",
  "dapr-internal-grpc-port",
  "dapr-listen-addresses",
  "dapr-public-listen-address",
  "dapr-public-port",
  "disable-init-endpoints",
  "hot-reload-reconcile-interval",
  "kubeconfig",
  "log-level",
  "max-body-size",
  "metrics-listen-address",
  "metrics-port",
  "mode",
  "placement-host-address",
  "profile-port",
  "read-buffer-size",
  "reminders-service",
  "resources-path",
  "scheduler-host-address",
  "scheduler-job-streams",
  "sentry-address",
  "sentry-request-jwt-audiences",
  "unix-domain-socket",
] as const;

/** A flag that daprd has. */
export type FlagName = (typeof booleans)[number] | (typeof valued)[number];

/** All of them. */
export const flagNames: readonly FlagName[] = [...booleans, ...valued].sort();

/**
 * Reads the words after the program's name: `--flag=value`, `--flag value` and, for booleans, `--flag`, with one
 * dash or two. A flag that is given twice has its last value, lists have all. What is no flag is ignored, as are
 * unknown flags, with the word after them if it looks like their value. Throws FlagError.
 */
export function readCommandLine(words: readonly string[]): CommandLine {
  const given = new Map<string, string[]>();
  const unknown: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    if (word === "--") break;
    const [, name, value] = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word) ?? [];
    if (name === undefined) continue;
    const isBoolean = (booleans as readonly string[]).includes(name);
    const isValued = (valued as readonly string[]).includes(name);
    const next = words[at + 1];
    const hasNext = next !== undefined && (isValued || !next.startsWith("-"));
    if (!isBoolean && !isValued) {
      unknown.push(word.slice(0, word.indexOf(name) + name.length));
      if (value === undefined && hasNext) at++;
      continue;
    }
    let own = value;
    if (own === undefined && isBoolean) own = "true";
    if (own === undefined && hasNext) own = words[++at];
    if (own === undefined) throw new FlagError(name, "", "needs a value");
    given.set(name, [...(given.get(name) ?? []), own]);
  }
  return new CommandLine(given, unknown);
}
