/** The fields of `spec.metadata` of pubsub.kafka: Dapr's, and ours. docs/components/kafka.md has them all. */
import * as z from "zod";
import { byteSize, choice, durationMs, flag, integer, parseDurationMs, text } from "../../config/fields.ts";

const second = 1000;

function positiveDurationMs(unitMs = 1) {
  return durationMs(unitMs).refine((value) => value > 0, {
    message: "expected a duration of more than zero",
  });
}

function positiveBytes() {
  return byteSize().refine((value) => value > 0, { message: "expected more than zero" });
}

/** Durations of a list, such as "5s,1m,10m", by the names that they have there. */
function durations() {
  return text().transform((value, context) => {
    const names = value
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== "");
    const delays = names.map((name) => ({ name, ms: parseDurationMs(name) ?? 0 }));
    if (delays.every(({ name, ms }) => ms > 0 && /^[A-Za-z0-9]+$/.test(name))) return delays;
    context.addIssue({ code: "custom", message: 'expected durations such as "5s,1m,10m"' });
    return z.NEVER;
  });
}

/** Names and values of a list, such as "retention.ms=3600000,cleanup.policy=compact". */
function pairs() {
  return text().transform((value, context) => {
    const entries = value
      .split(",")
      .filter((part) => part.trim() !== "")
      .map((part) => /^\s*([A-Za-z0-9._-]+)\s*=\s*(.*?)\s*$/.exec(part));
    if (entries.every((entry) => entry !== null)) {
      return Object.fromEntries(entries.map((entry) => [entry[1]!, entry[2]!]));
    }
    context.addIssue({ code: "custom", message: 'expected "name=value", or several with commas between' });
    return z.NEVER;
  });
}

/** A name that Kafka takes as `group.instance.id`, or "" for none. */
function instanceId() {
  return text()
    .default("")
    .refine((value) => /^(?!\.{1,2}$)[A-Za-z0-9._-]{0,249}$/.test(value), {
      message: 'expected at most 249 letters, digits, ".", "_" and "-"',
    });
}

/** Addresses, each as host:port. */
function addresses() {
  return text().transform((value, context) => {
    const parsed = value
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "")
      .map((part) => /^(?:\[([0-9a-fA-F:]+)\]|([^\s:/@]+))(?::(\d{1,5}))?$/.exec(part));
    if (parsed.length > 0 && parsed.every((one) => one !== null && Number(one[3] ?? 1) <= 65_535)) {
      return parsed.map((one) => ({ host: (one![1] ?? one![2])!, port: Number(one![3] ?? 9092) }));
    }
    context.addIssue({ code: "custom", message: 'expected "host:port", or several with commas between' });
    return z.NEVER;
  });
}

function names() {
  return text().transform((value) =>
    value
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== ""),
  );
}

/** Text with JSON of an object whose values are texts. */
function jsonTexts() {
  return text().transform((value, context) => {
    try {
      const parsed = z.record(z.string(), z.string()).safeParse(value === "" ? {} : JSON.parse(value));
      if (parsed.success) return parsed.data;
    } catch {
      // Told below, without the value.
    }
    context.addIssue({ code: "custom", message: "expected a JSON object whose values are strings" });
    return z.NEVER;
  });
}

function notBuilt(what: string) {
  return text()
    .refine((value) => /^(|false)$/i.test(value), { message: `expected none: ${what} is not in this build` })
    .optional();
}

const connectionFields = {
  brokers: addresses(),
  clientID: text().default("outrider"),
  version: text().optional(),
  authType: choice("none", "password", "oidc", "oidc_private_key_jwt", "mtls", "certificate", "awsiam"),
  authRequired: flag().optional(),
  saslUsername: text().default(""),
  saslPassword: text().default(""),
  saslMechanism: choice("PLAINTEXT", "PLAIN", "SHA-256", "SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-512"),
  oidcTokenEndpoint: text().default(""),
  oidcClientID: text().default(""),
  oidcClientSecret: text().default(""),
  oidcScopes: text().default("openid"),
  oidcExtensions: jsonTexts().optional(),
  oidcResource: text().default(""),
  oidcAudience: text().default(""),
  oidcClientAssertionCert: notBuilt("oidc_private_key_jwt"),
  oidcClientAssertionKey: notBuilt("oidc_private_key_jwt"),
  oidcKid: notBuilt("oidc_private_key_jwt"),
  caCert: text().default(""),
  clientCert: text().default(""),
  clientKey: text().default(""),
  skipVerify: flag().default(false),
  disableTls: flag().default(false),
  dialTimeout: positiveDurationMs(second).prefault("4s"),
  readTimeout: positiveDurationMs(second).prefault("10s"),
  writeTimeout: positiveDurationMs(second).optional(),
  metadataTimeout: durationMs(second).optional(),
  clientConnectionKeepAliveInterval: durationMs(second).prefault("60s"),
  clientConnectionTopicMetadataRefreshInterval: positiveDurationMs(second).prefault("8m"),
};

const producerFields = {
  publishTopic: text().default(""),
  producerRequiredAcks: choice("all", "local", "none"),
  producerRetryMax: integer(0, 1_000_000).optional(),
  maxMessageBytes: positiveBytes().prefault("1048576"),
  compression: choice("none", "gzip", "snappy", "lz4", "zstd"),
  contentMode: choice("structured", "binary"),
};

const consumerFields = {
  consumerGroup: text().default(""),
  groupInstanceId: instanceId(),
  subscribeTopics: names().optional(),
  initialOffset: choice("newest", "oldest"),
  consumeRetryEnabled: flag().optional(),
  consumeRetryInterval: positiveDurationMs().optional(),
  heartbeatInterval: positiveDurationMs(second).prefault("1s"),
  sessionTimeout: positiveDurationMs(second).prefault("10s"),
  rebalanceTimeout: positiveDurationMs(second).prefault("60s"),
  consumerGroupRebalanceStrategy: choice("range", "sticky", "roundrobin"),
  commitInterval: positiveDurationMs(second).prefault("1s"),
  maxUnsettledDistance: integer(100, 20_000).prefault("10000"),
  retryTopics: durations().optional(),
  channelBufferSize: integer(0, 1_000_000).optional(),
  consumerFetchMin: positiveBytes().prefault("1"),
  consumerFetchDefault: positiveBytes().prefault("1048576"),
  topicRefreshInterval: positiveDurationMs(second).prefault("10s"),
};

const topicFields = {
  createTopics: flag().optional(),
  topicPartitions: integer(1, 100_000).optional(),
  topicReplicationFactor: integer(1, 1000).optional(),
  topicConfigs: pairs().optional(),
};

const otherFields = {
  escapeHeaders: flag().default(false),
  excludeHeaderMetaRegex: text().default(""),
  schemaRegistryURL: notBuilt("a schema registry"),
  schemaRegistryAPIKey: notBuilt("a schema registry"),
  schemaRegistryAPISecret: notBuilt("a schema registry"),
  schemaCachingEnabled: flag().optional(),
  schemaLatestVersionCacheTTL: durationMs(second).optional(),
  useAvroJSON: notBuilt("Avro"),
  region: notBuilt("AWS IAM"),
  accessKey: notBuilt("AWS IAM"),
  secretKey: notBuilt("AWS IAM"),
  sessionToken: notBuilt("AWS IAM"),
  assumeRoleArn: notBuilt("AWS IAM"),
  sessionName: notBuilt("AWS IAM"),
  awsRegion: notBuilt("AWS IAM"),
  awsAccessKey: notBuilt("AWS IAM"),
  awsSecretKey: notBuilt("AWS IAM"),
  awsSessionToken: notBuilt("AWS IAM"),
  awsIamRoleArn: notBuilt("AWS IAM"),
  awsStsSessionName: notBuilt("AWS IAM"),
};

/** The fields of pubsub.kafka. */
export const kafkaSchema = z
  .strictObject({ ...connectionFields, ...producerFields, ...consumerFields, ...topicFields, ...otherFields })
  .check((context) => {
    for (const [field, message] of contradictions(context.value)) {
      context.issues.push({ code: "custom", message, path: [field], input: context.value });
    }
  });

/** What `kafkaSchema` makes of the metadata. */
export type KafkaFields = z.output<typeof kafkaSchema>;

/** How connections authenticate. */
export type AuthType = "none" | "password" | "oidc" | "mtls" | "certificate";

/** `authType`, or what the older `authRequired` says. */
export function authTypeOf({
  authType,
  authRequired,
}: Pick<KafkaFields, "authType" | "authRequired">): AuthType {
  if (authType) return authType as AuthType;
  return authRequired ? "password" : "none";
}

type ContradictionFields = Pick<
  KafkaFields,
  | "authType"
  | "authRequired"
  | "saslUsername"
  | "saslPassword"
  | "oidcTokenEndpoint"
  | "oidcClientID"
  | "oidcClientSecret"
  | "clientCert"
  | "clientKey"
  | "disableTls"
  | "heartbeatInterval"
  | "sessionTimeout"
  | "excludeHeaderMetaRegex"
>;

/** Fields that make no sense beside others, each with what is wrong. */
function* contradictions(fields: ContradictionFields): Generator<readonly [field: string, message: string]> {
  const { authType, heartbeatInterval, sessionTimeout } = fields;
  if (authType === "awsiam" || authType === "oidc_private_key_jwt") {
    yield [
      "authType",
      `"${authType}" is not in this build; there are: none, password, oidc, mtls, certificate`,
    ];
    return;
  }
  const auth = authTypeOf(fields);
  const needed: Partial<Record<AuthType, readonly (keyof ContradictionFields)[]>> = {
    password: ["saslUsername", "saslPassword"],
    oidc: ["oidcTokenEndpoint", "oidcClientID", "oidcClientSecret"],
    certificate: ["clientCert", "clientKey"],
    mtls: [],
  };
  for (const field of needed[auth] ?? []) {
    if (fields[field] === "") yield [field, `must be set with authType "${auth}"`];
  }
  if (auth === "certificate" && fields.disableTls)
    yield ["disableTls", "must not be set together with certificates"];
  if ((fields.clientCert === "") !== (fields.clientKey === "")) {
    const missing = fields.clientCert === "" ? "clientCert" : "clientKey";
    yield [missing, "must be set: clientCert and clientKey belong together"];
  }
  if (heartbeatInterval * 2 > sessionTimeout) {
    yield ["heartbeatInterval", "must be at most half of sessionTimeout"];
  }
  try {
    new RegExp(fields.excludeHeaderMetaRegex);
  } catch {
    yield ["excludeHeaderMetaRegex", "expected a regular expression"];
  }
}

/** Whether connections use TLS: with any authentication, as in Dapr, and whenever there is a certificate. */
export function usesTls(fields: KafkaFields): boolean {
  if (fields.disableTls) return false;
  const auth = authTypeOf(fields);
  return auth !== "none" || fields.caCert !== "" || fields.clientCert !== "";
}
