/** What these components throw, and how blocks are to treat it. */
import type { ErrorClass } from "../../blocks/call.ts";

/** An error of Redis, of the way to it, or of what it was asked; never with a secret in it. */
export class RedisFailure extends Error {
  override readonly name = "RedisFailure";
  readonly errorClass: ErrorClass;
  /** True: the command may have been carried out, for its answer was lost on the way. */
  readonly ambiguous: boolean;

  constructor(
    errorClass: ErrorClass,
    message: string,
    options: { readonly cause?: unknown; readonly ambiguous?: boolean } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.errorClass = errorClass;
    this.ambiguous = options.ambiguous ?? false;
  }
}

/** Classifies what a driver of this folder threw. */
export function classify(error: unknown): ErrorClass | undefined {
  if (error instanceof RedisFailure) return error.errorClass;
  if (error instanceof Error && /^(Abort|Timeout)Error$/.test(error.name)) return "cancelled";
  return undefined;
}

/** Answers of a server that will say something else in a while. */
const passing = /^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|READONLY|BUSY|NOREPLICAS|OOM|MISCONF|MOVED|ASK)\b/;

/** Whether Redis itself answered with an error. */
export function isReplyError(error: unknown): error is Error {
  return error instanceof Error && error.name === "ReplyError";
}

/** Whether Redis does not know a script by its hash. */
export function isUnknownScript(error: unknown): boolean {
  return isReplyError(error) && error.message.startsWith("NOSCRIPT");
}

/** Whether a consumer group or its stream is gone. */
export function isNoGroup(error: unknown): boolean {
  return error instanceof Error && /NOGROUP|UNBLOCKED/.test(error.message);
}

/** Makes an error of these components of what the library threw for a command that was sent. */
export function toFailure(error: unknown): RedisFailure {
  if (error instanceof RedisFailure) return error;
  if (!isReplyError(error)) {
    return new RedisFailure("unavailable", `the connection to Redis was lost (${messageOf(error)})`, {
      cause: error,
      // The library says so of what it has not even sent.
      ambiguous: !/Stream isn't writeable/.test(messageOf(error)),
    });
  }
  // Errors of a script end with where in it they happened, which says nothing to users.
  const text = error.message.replace(/ script: [0-9a-f]{40}, on .*$/s, "");
  const failure = new RedisFailure(passing.test(text) ? "unavailable" : "refused", `Redis answers: ${text}`);
  // The library notes the command and its arguments in the error: values of users, which belong in no log.
  return failure;
}

/** Why a connection cannot be made, in words for whoever wrote the configuration. */
export function connectFailure(error: unknown, address: string): RedisFailure {
  if (error instanceof RedisFailure) return error;
  const message = messageOf(error);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const refused = (text: string) => new RedisFailure("refused", text);
  if (/^WRONGPASS|invalid password|invalid username-password/i.test(message))
    return refused(`Redis at ${address} does not accept the user or the password`);
  if (/^NOAUTH/.test(message)) return refused(`Redis at ${address} wants a password, and none is set`);
  if (/^NOPERM/.test(message))
    return refused(`Redis at ${address} lacks a permission for this user: ${message}`);
  if (/Protocol error|unknown reply type|Please report this|Unknown RESP/i.test(message))
    return refused(`what listens at ${address} does not speak the protocol of Redis`);
  if (certificateCodes.test(code) || /certificate/i.test(message))
    return refused(`the certificate of Redis at ${address} is not trusted: ${message}`);
  if (/wrong version number|EPROTO|ERR_SSL|packet length too long|tlsv1|sslv3/i.test(`${message} ${code}`))
    return refused(
      `the TLS handshake with ${address} failed: ${firstLine(message)}; is TLS on at both ends?`,
    );
  if (/All sentinels are unreachable/.test(message))
    return new RedisFailure(
      "unavailable",
      `no sentinel at ${address} knows a primary: ${firstLine(message)}`,
    );
  if (/DB index is out of range|invalid DB index/i.test(message))
    return refused(`Redis at ${address} has no database of that number (redisDB)`);
  if (/cluster support disabled/i.test(message))
    return refused(`Redis at ${address} is not a cluster: redisType must be "node"`);
  return new RedisFailure("unavailable", `cannot reach Redis at ${address}: ${reasonOf(error)}`, {
    cause: error,
  });
}

const certificateCodes = /^(UNABLE_TO_|CERT_|SELF_SIGNED|DEPTH_ZERO|ERR_TLS_CERT|HOSTNAME_MISMATCH)/;

/** Why a connection cannot be made, or was lost, in a few words; undefined stands for an end without any. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return firstLine(messageOf(error)) || code || "the connection was closed";
}

function messageOf(error: unknown): string {
  if (error === undefined) return "";
  return error instanceof Error ? error.message : String(error);
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0]!;
}
