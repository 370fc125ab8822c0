/** Errors of NATS, in words that help, and what class they are of. */
import type { ErrorClass } from "../../blocks/call.ts";

/** What the drivers throw when the server does not do what it was asked. */
export class NatsError extends Error {
  override readonly name = "NatsError";
  readonly errorClass: ErrorClass;

  constructor(errorClass: ErrorClass, message: string, options?: ErrorOptions) {
    super(message, options);
    this.errorClass = errorClass;
  }
}

/** Codes of JetStream's API that are told apart (`err_code`). */
export const apiCodes = {
  streamNotFound: 10059,
  streamNameInUse: 10058,
  streamSubjectOverlap: 10065,
  consumerNotFound: 10014,
  consumerExists: 10148,
  consumerNameExists: 10013,
  wrongLastSequence: 10071,
  wrongLastSequenceUnknown: 10164,
  notEnabled: 10076,
  notEnabledForAccount: 10039,
} as const;

/** Whether the server's permissions keep the user from something. */
function isForbidden(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return error.name === "PermissionViolationError" || isForbidden(error.cause);
}

/** Whether an error says that the stream or the consumer is gone, or that nobody listens where it should. */
export function isAbsent(error: unknown): boolean {
  const code = apiCode(error);
  if (code === apiCodes.streamNotFound || code === apiCodes.consumerNotFound) return true;
  if (!(error instanceof Error)) return false;
  return error.name === "NoResponders" || isAbsent(error.cause);
}

/** `err_code` of an answer of JetStream's API; undefined when an error is none. */
export function apiCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || error.name === "NatsError") return undefined;
  if (!("code" in error) || typeof error.code !== "number" || error.code < 10_000) return undefined;
  return error.code;
}

/** Classifies what a driver threw. */
export function classify(error: unknown): ErrorClass | undefined {
  if (error instanceof NatsError) return error.errorClass;
  if (!(error instanceof Error)) return undefined;
  if (error.name === "AbortError") return "cancelled";
  if (isForbidden(error)) return "refused";
  if (apiCode(error) !== undefined) return statusOf(error) >= 500 ? "unavailable" : "refused";
  return classes[error.name];
}

/** Names of the library's errors. Its own `TimeoutError` is told from that of an AbortSignal, which is a DOMException. */
const classes: Record<string, ErrorClass> = {
  ConnectionError: "unavailable",
  ClosedConnectionError: "unavailable",
  DrainingConnectionError: "unavailable",
  RequestError: "unavailable",
  NoResponders: "unavailable",
  JetStreamStatusError: "unavailable",
  TimeoutError: "unavailable",
  AuthorizationError: "refused",
  UserAuthenticationExpiredError: "refused",
  JetStreamNotEnabled: "refused",
};

function statusOf(error: Error): number {
  return "status" in error && typeof error.status === "number" ? error.status : 400;
}

/** Certificates that Node refuses, and sockets that fail: what to tell people instead. */
const connectProblems: readonly (readonly [RegExp, ErrorClass, string])[] = [
  [
    /^(DEPTH_ZERO_)?SELF_SIGNED|^UNABLE_TO_(VERIFY|GET)|^CERT_UNTRUSTED/,
    "refused",
    "its certificate is signed by an authority that is not trusted here; tls_ca_cert names it",
  ],
  [/^CERT_HAS_EXPIRED/, "refused", "its certificate has expired"],
  [/^ERR_TLS_CERT_ALTNAME_INVALID/, "refused", "its certificate is for another host"],
  [/^ERR_SSL|^ERR_OSSL|^EPROTO/, "refused", "TLS could not be agreed on"],
  [/^ENOTFOUND|^EAI_AGAIN/, "unavailable", "its name is not known"],
  [/^ECONNREFUSED/, "unavailable", "nobody listens there"],
  [/^ECONNRESET|^EPIPE/, "unavailable", "it closed the connection"],
  [/^ETIMEDOUT|^EHOSTUNREACH|^ENETUNREACH/, "unavailable", "it cannot be reached"],
];

/** What went wrong when connecting, without credentials in it. */
export function connectError(error: unknown, addresses: readonly string[]): NatsError {
  const at = `the NATS server at ${addresses.join(", ")}`;
  const make = (errorClass: ErrorClass, why: string): NatsError =>
    new NatsError(errorClass, `${at}: ${why}`, { cause: error });
  if (!(error instanceof Error)) return make("unavailable", "no connection");
  if (error.name === "AuthorizationError") return make("refused", "it refuses the credentials");
  if (error.name === "UserAuthenticationExpiredError") return make("refused", "the credentials have expired");
  if (error.name === "JetStreamNotEnabled") return make("refused", "JetStream is not enabled on it");
  const code = apiCode(error);
  if (code === apiCodes.notEnabled) return make("refused", "JetStream is not enabled on it");
  if (code === apiCodes.notEnabledForAccount)
    return make("refused", "JetStream is not enabled for the account");
  if (isForbidden(error)) return make("refused", "the user may not use JetStream's API");
  for (const each of [error, error.cause]) {
    const text = each instanceof Error && "code" in each ? String(each.code) : "";
    const known = connectProblems.find(([match]) => match.test(text));
    if (known) return make(known[1], known[2]);
  }
  if (/unexpected response/.test(error.message))
    return make("refused", "what answers there is no NATS server");
  if (/not available on this server|does not support 'tls'/.test(error.message))
    return make("refused", "it does not speak TLS");
  if (error.name === "TimeoutError" || /timeout/i.test(error.message))
    return make("unavailable", "it did not answer in time, or what answers there is no NATS server");
  if (/refused/.test(error.message)) return make("unavailable", "nobody listens there");
  return make("unavailable", error.message.slice(0, 200));
}
