/** The fields of `spec.metadata` of pubsub.jetstream and state.jetstream: Dapr's, and a few of our own. */
import * as z from "zod";
import { byteSize, choice, durationMs, flag, integer, parseDurationMs, text } from "../../config/fields.ts";

const dayMs = 24 * 60 * 60 * 1000;
const maxSequence = Number.MAX_SAFE_INTEGER;

function positiveMs(unitMs: number) {
  return durationMs(unitMs).refine((value) => value > 0, {
    message: "expected a duration of more than zero",
  });
}

/** A stream's, a consumer's or a bucket's name. */
function name() {
  return text().refine((value) => /^[-\w]{1,200}$/.test(value), {
    message: "expected up to 200 letters, digits, dashes and underscores",
  });
}

/** Durations, as "1s,2s" or "[1s, 2s]". */
function durations() {
  return text().transform((value, context) => {
    const parts = value
      .replace(/^\[|\]$/g, "")
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "");
    const parsed = parts.map((part) => parseDurationMs(part));
    if (!parsed.includes(undefined)) return parsed as number[];
    context.addIssue({ code: "custom", message: 'expected durations such as "1s,5s,1m"' });
    return z.NEVER;
  });
}

const connectionFields = {
  /** One server or several, separated by commas: `nats://host:4222`, `tls://host:4222`, with `user:password@` or `token@`. */
  natsURL: text().refine((value) => serversOf(value) !== undefined, {
    message: 'expected URLs such as "nats://localhost:4222", separated by commas',
  }),
  /** The JWT of a user; with `seedKey`. */
  jwt: text().optional(),
  /** The seed of the user's key; with `jwt`. */
  seedKey: text().optional(),
  /** A token. */
  token: text().optional(),
  /** The client's certificate: a file, or PEM. With `tls_client_key`. */
  tls_client_cert: text().optional(),
  /** The key of the client's certificate: a file, or PEM. */
  tls_client_key: text().optional(),
  /** The authorities that the server's certificate is checked against: a file, or PEM. Default: the system's. */
  tls_ca_cert: text().optional(),
  /** What the server's connection list calls the sidecar. */
  name: text().optional(),
  /** The JetStream domain. */
  domain: text().optional(),
  /** The prefix of JetStream's API where it is not `$JS.API`. */
  apiPrefix: text().optional(),
};

/** Checks what only fields together can tell. */
function together(fields: ConnectionFields, context: z.core.$RefinementCtx): void {
  const pair = (one: keyof ConnectionFields, other: keyof ConnectionFields): void => {
    if (!fields[one] === !fields[other]) return;
    const missing = fields[one] ? other : one;
    context.addIssue({ code: "custom", path: [missing], message: "is missing" });
  };
  pair("jwt", "seedKey");
  pair("tls_client_cert", "tls_client_key");
  if (fields.domain && fields.apiPrefix) {
    context.addIssue({
      code: "custom",
      path: ["apiPrefix"],
      message: "must not be set together with domain",
    });
  }
}

/** The fields of pubsub.jetstream. */
export const pubSubSchema = z
  .strictObject({
    ...connectionFields,
    /** The stream of every topic. Default: the stream that has the topic's subject, or a new one. */
    streamName: name().optional(),
    /** False: a topic without a stream is an error. */
    createStreams: flag().default(true),
    /** Events of streams made here are removed when they are older. */
    retentionAge: positiveMs(1000).default(7 * dayMs),
    /** The oldest events of a stream made here are removed when it takes more. The server reserves as much. Default: no limit. */
    retentionBytes: byteSize()
      .refine((value) => value > 0, { message: "expected more than zero" })
      .optional(),
    /** Copies of streams and consumers made here. */
    replicas: integer(0, 5).default(0),
    /** Keeps what a group has settled in the server's memory. */
    memoryStorage: flag().default(false),
    /** The beginning of the names of consumers. */
    durableName: name().optional(),
    /** Taken, and without effect: members of a group always share. */
    queueGroupName: text().optional(),
    /** Where a group begins that is not told where. */
    deliverPolicy: choice("all", "last", "new", "sequence", "time"),
    /** With `deliverPolicy` "sequence". */
    startSequence: integer(0, maxSequence).optional(),
    /** With `deliverPolicy` "time": seconds since 1970. */
    startTime: integer(0, 253402300799).optional(),
    /** How long what a dead sidecar held stays away from the others. Handlers may take longer: they are kept alive. */
    ackWait: durationMs(1)
      .refine((value) => value >= 1000, { message: "expected 1s or more" })
      .default(6000),
    /** Deliveries of an event until it is given up. Zero or less: as the subscription says. */
    maxDeliver: integer(-1, 1_000_000).default(-1),
    /** Events of a group that are out or wait to be repeated at most. */
    maxAckPending: integer(-1, 10_000_000).default(100_000),
    /** Taken, and without effect: the delays of repeats are the subscription's. */
    backOff: durations().optional(),
    /** Taken; events are acknowledged one by one in any case. */
    ackPolicy: text().optional(),
    /** Taken, and without effect: events are pulled. */
    flowControl: flag().optional(),
    /** Taken, and without effect: events are pulled. */
    heartbeat: durationMs(1).optional(),
    /** Taken, and without effect: events are pulled. */
    rateLimit: integer(0, maxSequence).optional(),
    /** Taken, and without effect: `max_in_flight` of a subscription says how many run at once. */
    concurrency: choice("single", "parallel"),
  })
  .superRefine(together);

/** The fields of state.jetstream. */
export const stateSchema = z
  .strictObject({
    ...connectionFields,
    /** The bucket; it is made when there is none. */
    bucket: name(),
    /** Copies of a bucket made here. */
    replicas: integer(1, 5).default(1),
  })
  .superRefine(together);

/** What both have. */
export interface ConnectionFields {
  readonly natsURL: string;
  readonly jwt?: string | undefined;
  readonly seedKey?: string | undefined;
  readonly token?: string | undefined;
  readonly tls_client_cert?: string | undefined;
  readonly tls_client_key?: string | undefined;
  readonly tls_ca_cert?: string | undefined;
  readonly name?: string | undefined;
  readonly domain?: string | undefined;
  readonly apiPrefix?: string | undefined;
}

export type PubSubFields = z.output<typeof pubSubSchema>;
export type StateFields = z.output<typeof stateSchema>;

/** Where to connect, and as whom. */
export interface Servers {
  /** `host:port` of each, for the library and for people. */
  readonly addresses: readonly string[];
  readonly tls: boolean;
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** A user without a password. */
  readonly token: string | undefined;
}

/** Reads a list of URLs; undefined when one is none. The first one with credentials gives them. */
export function serversOf(list: string): Servers | undefined {
  const urls = list
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  const parsed = urls.map((url) => (url.includes("://") ? url : `nats://${url}`));
  if (parsed.length === 0 || !parsed.every((url) => /^(nats|tls):/i.test(url) && URL.canParse(url)))
    return undefined;
  // URL knows no hosts of schemes that it does not know.
  const all = parsed.map((url) => new URL(url.replace(/^(nats|tls):/i, "http:")));
  const credentials = all.find((url) => url.username !== "");
  const user = credentials && decodeURIComponent(credentials.username);
  const password = credentials?.password ? decodeURIComponent(credentials.password) : undefined;
  return {
    addresses: all.map((url, index) => `${url.hostname}:${url.port || portOf(parsed[index]!)}`),
    tls: parsed.some((url) => /^tls:/i.test(url)),
    user: password === undefined ? undefined : user,
    password,
    token: password === undefined ? user : undefined,
  };
}

/** URL leaves the default port of its scheme away, which was http here. */
function portOf(url: string): string {
  return /:80(\/|$)/.test(url) ? "80" : "4222";
}
