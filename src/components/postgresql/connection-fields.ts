/** The fields of `spec.metadata` that say where the server is, as Dapr names them, and those of our own. */
import * as z from "zod";
import { choice, durationMs, flag, integer, text } from "../../config/fields.ts";
import { Pem, withMaterial } from "../pem.ts";
import { type Parameters, parseConnectionString } from "./connection-string.ts";
import { PostgresError } from "./errors.ts";

const defaultTimeoutMs = 20_000;
const defaultPollMs = 100;
const defaultIdleMs = 30 * 60_000;
/** How long making one connection may take, when the connection string has no `connect_timeout`. */
const defaultConnectMs = 5000;

const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;
export type SslMode = (typeof sslModes)[number];

/** A duration of more than zero; a bare number is a number of `unitMs`. */
export function positiveDurationMs(unitMs: number) {
  return durationMs(unitMs).refine((value) => value > 0, {
    message: "expected a duration of more than zero",
  });
}

function connectionString() {
  return text().superRefine((value, context) => {
    const message = issueOf(value);
    if (message !== undefined) context.addIssue({ code: "custom", message });
  });
}

function issueOf(value: string): string | undefined {
  try {
    const parameters = parseConnectionString(value);
    const mode = parameters.get("sslmode");
    if (mode !== undefined && !isSslMode(mode)) return `expected sslmode to be one of ${sslModes.join(", ")}`;
    if ((parameters.get("host") ?? "").includes(",")) return "expected one host: several are not supported";
    const port = Number(parameters.get("port") ?? 5432);
    return Number.isInteger(port) && port > 0 && port < 65_536
      ? undefined
      : "expected a port from 1 to 65535";
  } catch (error) {
    return (error as Error).message;
  }
}

/** What asks for credentials of a cloud, which this build cannot get. */
function notHere(what: string) {
  return flag()
    .refine((value) => !value, { message: `expected "false": ${what} is not supported` })
    .optional();
}

/** The fields of both components. */
export const connectionFields = {
  connectionString: connectionString().optional(),
  url: connectionString().optional(),
  host: text().optional(),
  hostaddr: text().optional(),
  port: integer(1, 65_535).optional(),
  user: text().optional(),
  password: text().optional(),
  database: text().optional(),
  /** A CA's certificates: PEM, or a file that has them. */
  sslRootCert: text().optional(),
  /** How long a statement may take. */
  timeout: positiveDurationMs(1000).optional(),
  timeoutInSeconds: positiveDurationMs(1000).optional(),
  /** Connections at most, beside the one that listens. 0: as many as there are processors, and at least 4. */
  maxConns: integer(0, 1000).optional(),
  connectionMaxIdleTime: durationMs(1000).optional(),
  /** `cache_statement`: statements are prepared once for each connection, in any case; the others: never. */
  queryExecMode: choice("cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"),
  useAzureAD: notHere("signing in with Azure"),
  useAWSIAM: notHere("signing in with AWS IAM"),
  azureTenantId: text().optional(),
  azureClientId: text().optional(),
  azureClientSecret: text().optional(),
  awsRegion: text().optional(),
  awsAccessKey: text().optional(),
  awsSecretKey: text().optional(),
  awsSessionToken: text().optional(),
  /** Where to listen for notifications, when `connectionString` leads to a pooler. */
  listenConnectionString: connectionString().optional(),
  /** How often to look for what is new where notifications do not arrive. */
  pollInterval: positiveDurationMs(1).optional(),
};

const fieldsSchema = z.object(connectionFields);
export type ConnectionFields = z.infer<typeof fieldsSchema>;

/** Where a server is, and as whom to go there. */
export interface Endpoint {
  /** A name, an address, or a directory of Unix sockets. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly sslMode: SslMode;
  /** What is connected to instead of `host`, whose name is still the certificate's. */
  readonly address: string | undefined;
  /** PEM, or the path of a file. */
  readonly rootCertificate: string | undefined;
  /** Paths of files. */
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly applicationName: string | undefined;
  readonly connectMs: number;
}

/** All that a database needs to know. */
export interface ConnectionSettings {
  readonly endpoint: Endpoint;
  readonly listen: Endpoint;
  readonly timeoutMs: number;
  readonly maxConnections: number;
  readonly maxIdleMs: number;
  /**
   * Whether statements are prepared once for each connection. Undefined: when notifications have shown that there is no
   * pooler in between which hands every transaction to another connection.
   */
  readonly prepare: boolean | undefined;
  readonly pollMs: number;
}

/** What the fields mean. Throws PostgresError when they do not say enough. */
export function connectionSettings(fields: ConnectionFields, processors: number): ConnectionSettings {
  const given = fields.connectionString ?? fields.url;
  const endpoint = endpointOf(given === undefined ? new Map() : parseConnectionString(given), fields);
  const { listenConnectionString: listen } = fields;
  return {
    endpoint,
    listen: listen === undefined ? endpoint : endpointOf(parseConnectionString(listen), fields),
    timeoutMs: fields.timeout ?? fields.timeoutInSeconds ?? defaultTimeoutMs,
    maxConnections: fields.maxConns || Math.max(4, processors),
    maxIdleMs: fields.connectionMaxIdleTime || defaultIdleMs,
    prepare: fields.queryExecMode === undefined ? undefined : fields.queryExecMode === "cache_statement",
    pollMs: fields.pollInterval ?? defaultPollMs,
  };
}

/** As in Dapr, fields of their own go before what the connection string says. */
function endpointOf(parameters: Parameters, fields: ConnectionFields): Endpoint {
  const own = (
    name: "host" | "hostaddr" | "user" | "password" | "database" | "sslRootCert",
    parameter: string,
  ) => fields[name] || parameters.get(parameter) || undefined;
  const address = own("hostaddr", "hostaddr");
  const host = own("host", "host") ?? address;
  if (host === undefined)
    throw new PostgresError("refused", 'neither "connectionString" nor "host" says where PostgreSQL is');
  const user = own("user", "user") ?? "postgres";
  const mode = parameters.get("sslmode") ?? "prefer";
  const connectSeconds = Number(parameters.get("connect_timeout"));
  return {
    host,
    address,
    port: fields.port ?? Number(parameters.get("port") ?? 5432),
    user,
    password: own("password", "password") ?? "",
    database: own("database", "dbname") ?? user,
    sslMode: isSslMode(mode) ? mode : "prefer",
    rootCertificate: own("sslRootCert", "sslrootcert"),
    certificate: parameters.get("sslcert"),
    key: parameters.get("sslkey"),
    applicationName: parameters.get("application_name"),
    connectMs: connectSeconds > 0 ? connectSeconds * 1000 : defaultConnectMs,
  };
}

function isSslMode(mode: string): mode is SslMode {
  return (sslModes as readonly string[]).includes(mode);
}

/** How TLS is to be spoken: what `node:tls` takes, or false for not at all. */
export type Tls =
  | false
  | {
      readonly rejectUnauthorized: boolean;
      readonly ca?: string;
      readonly cert?: string;
      readonly key?: string;
      readonly servername?: string;
      readonly checkServerIdentity?: () => undefined;
    };

/**
 * The ways to connect that the mode allows, the preferred first. Each connection reads the certificates' files that have changed.
 * Throws PostgresError when one cannot be read.
 */
export function tlsChoices(endpoint: Endpoint): readonly Tls[] {
  const { sslMode, host, rootCertificate, certificate, key } = endpoint;
  if (sslMode === "disable" || host.startsWith("/")) return [false];
  const ca = rootCertificate === undefined ? undefined : pem(rootCertificate, "the root certificate");
  // As libpq does: who gives a root certificate wants it to be checked.
  const verify = sslMode.startsWith("verify") || (sslMode === "require" && ca !== undefined);
  const options = {
    rejectUnauthorized: verify,
    ...(!/^[\d.]+$|:/.test(host) && { servername: host }),
    ...(sslMode !== "verify-full" && { checkServerIdentity: () => undefined }),
  };
  const tls: Tls = withMaterial(options, {
    ca,
    cert: certificate === undefined ? undefined : pem(certificate, "sslcert"),
    key: key === undefined ? undefined : pem(key, "sslkey"),
  });
  if (sslMode === "allow") return [false, tls];
  return sslMode === "prefer" ? [tls, false] : [tls];
}

function pem(value: string, what: string): Pem {
  try {
    return new Pem(value);
  } catch (error) {
    throw new PostgresError("refused", `${what} cannot be read (${(error as NodeJS.ErrnoException).code})`, {
      cause: error,
    });
  }
}
