/** Errors of PostgreSQL, of the network, and of what is kept there. */
import type { ErrorClass } from "../../blocks/call.ts";

/** What a driver of this folder throws when the server, or the way to it, failed. */
export class PostgresError extends Error {
  override readonly name = "PostgresError";
  readonly errorClass: ErrorClass | undefined;
  /** PostgreSQL's or the operating system's code; "" when there is none. */
  readonly code: string;

  constructor(
    errorClass: ErrorClass | undefined,
    message: string,
    options: ErrorOptions & { code?: string } = {},
  ) {
    super(message, options);
    this.errorClass = errorClass;
    this.code = options.code ?? "";
  }
}

/** Codes that our own functions raise. */
export const raised = {
  /** A precondition is not met; the detail is the key. */
  etagMismatch: "OR001",
  /** The member, or its group, is not known any more. */
  memberGone: "OR002",
  /** Members of the group want another order. */
  orderConflict: "OR003",
  /** Chunks were given up before the last one came. */
  chunksGone: "OR004",
  /** The position is not one of the topic. */
  unknownPosition: "OR005",
} as const;

/** Classifies what a driver of this folder threw. */
export function classify(error: unknown): ErrorClass | undefined {
  if (error instanceof PostgresError) return error.errorClass;
  if (error instanceof Error && /^(Abort|Timeout)Error$/.test(error.name)) return "cancelled";
  return undefined;
}

/**
 * The same error when it is known already, else what the library says, classified and in words
 * that name the server and no secret.
 */
export function asPostgresError(error: unknown, server: string): PostgresError {
  if (error instanceof PostgresError) return error;
  const code = codeOf(error);
  const reason = reasonOf(error);
  const options = { cause: error, code };
  const words = known[code];
  if (words) return new PostgresError(words[0], `${server} ${words[1]} (${reason})`, options);
  const errorClass = classOfState(code);
  if (errorClass !== undefined) return new PostgresError(errorClass, `${server} says: ${reason}`, options);
  if (isNetworkCode(code))
    return new PostgresError("unavailable", `${server} cannot be reached (${code})`, options);
  if (/does not support SSL/i.test(reason))
    return new PostgresError("refused", `${server} does not speak TLS, which sslmode asks for`, options);
  if (/error establishing an SSL connection/i.test(reason))
    return new PostgresError("refused", `${server} does not answer like a PostgreSQL server`, options);
  if (/certificate|self.signed|unable to (get|verify)|altname|EPROTO|tls|ssl/i.test(`${reason} ${code}`))
    return new PostgresError("refused", `TLS with ${server} failed: ${reason}`, options);
  if (/timeout expired|timeout exceeded|connection timeout/i.test(reason))
    return new PostgresError("unavailable", `${server} did not answer in time`, options);
  if (/terminated|connection ended|not queryable|connection error|closed|socket/i.test(reason))
    return new PostgresError("unavailable", `the connection to ${server} broke (${reason})`, options);
  if (/SASL|SCRAM/.test(reason))
    return new PostgresError("refused", `${server} refused the password (${reason})`, options);
  return new PostgresError(undefined, `${server}: ${reason}`, options);
}

/** Whether the same statement can be sent again, since nothing of it was done. */
export function isRolledBack(error: unknown): boolean {
  return ["40001", "40P01"].includes(codeOf(error));
}

/**
 * Whether another connection may serve where this one cannot: its server takes no writes (another may by now, at the same
 * address), or it has plans of tables that were altered since. Nothing of the statement was done.
 */
export function isStale(error: unknown): boolean {
  const code = codeOf(error);
  if (code === "25006" || code === "26000") return true;
  return ["0A000", "42804"].includes(code) && /cached plan|preparing the plan/.test(reasonOf(error));
}

/** Whether tables or functions are not there, which were when the component was opened. */
export function isMissing(error: unknown): boolean {
  return ["3F000", "42P01", "42703", "42883"].includes(codeOf(error));
}

/** SQLSTATE, or the code of the operating system; "" when there is none. */
function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** PostgreSQL's detail of an error; "" when there is none. */
export function detailOf(error: unknown): string {
  const cause = error instanceof PostgresError ? error.cause : error;
  return cause instanceof Error && "detail" in cause && typeof cause.detail === "string" ? cause.detail : "";
}

/** States that users can do something about (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const known: Readonly<Record<string, readonly [ErrorClass, string]>> = {
  "28P01": ["refused", "refused the password"],
  "28000": ["refused", "refused the user"],
  "3D000": ["refused", "has no such database"],
  "42501": ["refused", "does not give the user the rights that are needed"],
  "53300": ["unavailable", "has no connection left"],
  "53100": ["unavailable", "has a full disk"],
  "57P01": ["unavailable", "ended the connection"],
  "57P02": ["unavailable", "crashed and ended the connection"],
  "57P03": ["unavailable", "is starting or stopping"],
  "25006": ["unavailable", "takes no writes now"],
  [raised.memberGone]: [
    "unavailable",
    "has given the subscription up, because this sidecar showed no signs of life for too long",
  ],
  [raised.chunksGone]: ["unavailable", "has given the chunks up before the last one came"],
};

function classOfState(code: string): ErrorClass | undefined {
  if (!/^[0-9A-Z]{5}$/.test(code) || isNetworkCode(code)) return undefined;
  if (/^(08|40|53|57|58)/.test(code) || code === "55P03") return "unavailable";
  return /^(0A|21|22|23|28|3D|3F|42|54|XX)/.test(code) ? "refused" : undefined;
}

function isNetworkCode(code: string): boolean {
  return /^(E(CONN|HOST|NET|PIPE|AI_AGAIN|TIMEDOUT|NOTFOUND|ADDR)|ENOTFOUND|ENOENT|ETIMEDOUT|EAI_)/.test(
    code,
  );
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return (error instanceof Error ? error.message : String(error)).split("\n", 1)[0]!;
}
