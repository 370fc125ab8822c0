/** The fields of `spec.metadata` of these components: Dapr's, and a few of our own. */
import * as z from "zod";
import { choice, durationMs, flag, integer, text } from "../../config/fields.ts";
import { Pem, type TlsMaterial } from "../pem.ts";

const maxInt = 2 ** 31 - 1;

/** A field of Dapr's that would be a lie to pass over. */
function unsupportedFlag(what: string) {
  return flag()
    .refine((value) => !value, { error: `${what} is not supported yet: use redisUsername and redisPassword` })
    .optional();
}

/** Numbers without a unit are milliseconds, as in Dapr. */
function duration() {
  return durationMs(1);
}

function nonNegative() {
  return duration().refine((value) => value >= 0, { error: "expected a duration of zero or more" });
}

function positive() {
  return duration().refine((value) => value > 0, { error: "expected a duration of more than zero" });
}

/** How to reach Redis: the fields that both components have. */
const connectionFields = {
  /** `host:port`, several of them with commas between for a cluster or for sentinels. */
  redisHost: text().refine((value) => value.trim() !== "", { error: "expected host:port" }),
  /** The port of a host that has none. */
  redisPort: integer(1, 65_535).optional(),
  redisUsername: text().optional(),
  redisPassword: text().optional(),
  sentinelUsername: text().optional(),
  sentinelPassword: text().optional(),
  redisType: choice("node", "cluster"),
  /** Of a single server or one behind sentinels; a cluster has only one. */
  redisDB: integer(0, maxInt).optional(),
  /** True: `redisHost` are sentinels. */
  failover: flag().optional(),
  sentinelMasterName: text().optional(),
  enableTLS: flag().optional(),
  insecureSkipTLSVerify: flag().optional(),
  /** PEM, or the path of a file with it. */
  clientCert: text().optional(),
  clientKey: text().optional(),
  /** Ours: the authority that signed the server's certificate, PEM or a path. */
  caCert: text().optional(),
  useEntraID: unsupportedFlag("Entra ID"),
  useAzureAD: unsupportedFlag("Entra ID"),
  useOIDC: unsupportedFlag("OIDC"),
  oidcTokenEndpoint: text().optional(),
  oidcClientID: text().optional(),
  oidcClientAssertionCert: text().optional(),
  oidcClientAssertionKey: text().optional(),
  oidcResource: text().optional(),
  oidcAudience: text().optional(),
  oidcKid: text().optional(),
  oidcCACert: text().optional(),
  oidcScopes: text().optional(),
  /** Taken, and without effect: a command that may be repeated is, for as long as its call lasts. */
  redisMaxRetries: integer(-1, maxInt).optional(),
  maxRetries: integer(-1, maxInt).optional(),
  /** The first pause before connecting again; doubled each time. */
  redisMinRetryInterval: duration().optional(),
  maxRetryBackoff: duration().optional(),
  /** The longest pause before connecting again. */
  redisMaxRetryInterval: duration().optional(),
  dialTimeout: positive().optional(),
  /** A connection that gives no answer for so long is given up. */
  readTimeout: positive().optional(),
  writeTimeout: duration().optional(),
  /** Taken, and without effect: one connection carries all commands. */
  poolSize: integer(0, maxInt).optional(),
  poolTimeout: duration().optional(),
  minIdleConns: integer(0, maxInt).optional(),
  maxConnAge: duration().optional(),
  idleCheckFrequency: duration().optional(),
  idleTimeout: duration().optional(),
  /** Ours: a write is acknowledged when so many replicas have it. */
  waitReplicas: integer(0, 100).optional(),
  /** Ours: how long to wait for them. */
  waitTimeout: positive().optional(),
};

interface Checked {
  readonly failover?: boolean | undefined;
  readonly sentinelMasterName?: string | undefined;
  readonly redisType?: string | undefined;
  readonly waitReplicas?: number | undefined;
}

function check(fields: Checked, context: z.RefinementCtx): void {
  const no = (path: string, message: string) => context.addIssue({ code: "custom", path: [path], message });
  const cluster = fields.redisType === "cluster";
  if (fields.failover && !fields.sentinelMasterName)
    no("sentinelMasterName", "must be set, because failover is on");
  if (fields.failover && cluster) no("failover", "must be off with redisType cluster");
  if (fields.waitReplicas && cluster) no("waitReplicas", "has no meaning with redisType cluster");
}

/** The fields of state.redis. */
export const stateSchema = z
  .strictObject({
    ...connectionFields,
    /** Taken because Dapr's files have it: there are no queries yet. */
    queryIndexes: text().optional(),
  })
  .superRefine(check);

/** The fields of pubsub.redis. */
export const pubSubSchema = z
  .strictObject({
    ...connectionFields,
    /** How long a consumer that is not one of ours may hold an event before it is taken from it. 0: for ever. */
    processingTimeout: nonNegative().optional(),
    /** How often that is looked for. */
    redeliverInterval: nonNegative().optional(),
    /** How often what is held is touched, so that consumers that are not ours leave it alone. */
    entryKeepAliveInterval: nonNegative().optional(),
    /** Taken, and without effect: the application says how much it takes. */
    queueDepth: integer(0, maxInt).optional(),
    concurrency: integer(0, maxInt).optional(),
    /** Events a topic keeps at most, about. 0: no limit. */
    maxLenApprox: integer(0, Number.MAX_SAFE_INTEGER).optional(),
    /** How long a topic keeps events. 0: for ever. */
    streamTTL: nonNegative().optional(),
    /** Ours: how long a topic keeps events that every group has settled. */
    keepSettled: nonNegative().optional(),
  })
  .superRefine(check);

export type StateFields = z.infer<typeof stateSchema>;
export type PubSubFields = z.infer<typeof pubSubSchema>;

/** A server's place. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** How to connect, with every default. */
export interface ConnectionSettings {
  readonly addresses: readonly Address[];
  readonly kind: "node" | "sentinel" | "cluster";
  readonly masterName: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly sentinelUsername: string | undefined;
  readonly sentinelPassword: string | undefined;
  readonly database: number;
  readonly tls: TlsSettings | undefined;
  readonly connectTimeoutMs: number;
  readonly answerTimeoutMs: number;
  readonly firstRetryMs: number;
  readonly lastRetryMs: number;
  readonly waitReplicas: number;
  readonly waitTimeoutMs: number;
}

/** What becomes of it is what Node's `tls.connect` takes. */
export interface TlsSettings extends TlsMaterial {
  readonly rejectUnauthorized: boolean;
}

/** What the log of a topic keeps, and who is thought to be gone. */
export interface StreamSettings {
  readonly foreignIdleMs: number;
  readonly sweepForeignMs: number;
  readonly keepAliveMs: number;
  readonly maxLength: number;
  readonly maxAgeMs: number;
  readonly keepSettledMs: number;
}

/** Fills in the defaults. Reads the files that hold certificates; throws an Error that names the field. */
export function connectionSettings(fields: StateFields | PubSubFields): ConnectionSettings {
  const kind = fields.redisType === "cluster" ? "cluster" : fields.failover ? "sentinel" : "node";
  const firstRetryMs = Math.max(fields.redisMinRetryInterval ?? fields.maxRetryBackoff ?? 8, 1);
  return {
    addresses: addressesOf(fields.redisHost, fields.redisPort ?? (kind === "sentinel" ? 26_379 : 6379)),
    kind,
    masterName: fields.sentinelMasterName ?? "",
    username: fields.redisUsername || undefined,
    password: fields.redisPassword || undefined,
    sentinelUsername: fields.sentinelUsername || undefined,
    sentinelPassword: fields.sentinelPassword || undefined,
    database: kind === "cluster" ? 0 : (fields.redisDB ?? 0),
    tls: fields.enableTLS ? tlsSettings(fields) : undefined,
    connectTimeoutMs: fields.dialTimeout ?? 5000,
    answerTimeoutMs: fields.readTimeout ?? 3000,
    firstRetryMs,
    lastRetryMs: Math.max(fields.redisMaxRetryInterval ?? 512, firstRetryMs),
    waitReplicas: fields.waitReplicas ?? 0,
    waitTimeoutMs: fields.waitTimeout ?? 1000,
  };
}

/** What pubsub.redis keeps, with every default. */
export function streamSettings(fields: PubSubFields): StreamSettings {
  const foreignIdleMs = fields.processingTimeout ?? 60_000;
  return {
    foreignIdleMs,
    sweepForeignMs: Math.max(fields.redeliverInterval ?? 15_000, 1000),
    keepAliveMs: fields.entryKeepAliveInterval || Math.max(Math.floor(foreignIdleMs / 3), 1000),
    maxLength: fields.maxLenApprox ?? 0,
    maxAgeMs: fields.streamTTL ?? 0,
    keepSettledMs: fields.keepSettled ?? 0,
  };
}

function addressesOf(hosts: string, defaultPort: number): Address[] {
  return hosts
    .split(",")
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "")
    .map((entry) => {
      const match = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(entry);
      // An IPv6 address without brackets has no port.
      if (!match) return { host: entry, port: defaultPort };
      return { host: (match[1] ?? match[2])!, port: match[3] ? Number(match[3]) : defaultPort };
    });
}

function tlsSettings(fields: StateFields | PubSubFields): TlsSettings {
  return {
    ca: pem("caCert", fields.caCert),
    cert: pem("clientCert", fields.clientCert),
    key: pem("clientKey", fields.clientKey),
    rejectUnauthorized: !fields.insecureSkipTLSVerify,
  };
}

function pem(field: string, value: string | undefined): Pem | undefined {
  if (!value) return undefined;
  try {
    return new Pem(value);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    throw new Error(`${field} is neither PEM nor a file that can be read (${code})`);
  }
}

/** Stream limit and bound, as the scripts take them. Redis keeps one of them; the other is kept once a second. */
export function limitOf({ maxLength, maxAgeMs }: StreamSettings): readonly [string, string] {
  if (maxLength > 0) return ["MAXLEN", String(maxLength)];
  return maxAgeMs > 0 ? ["MINID", String(maxAgeMs)] : ["", ""];
}
