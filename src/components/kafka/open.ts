/** How the settings of "pubsub.kafka" become connections, a producer and consumers. */
import type { OpenContext } from "../../component.ts";
import type { KafkaClient } from "./client.ts";
import { codecNumbers, codecs } from "./compression/codecs.ts";
import { RetryTopics } from "./consumer/retry-topics.ts";
import { Consumers } from "./consumers.ts";
import { KafkajsClient } from "./kafkajs/client.ts";
import { loadLibrary } from "./kafkajs/library.ts";
import { OidcTokens } from "./oidc.ts";
import { abortable, persist } from "./patience.ts";
import { Producer } from "./producer/producer.ts";
import { KafkaPubSub } from "./pubsub.ts";
import type { SaslSettings } from "./sasl.ts";
import { tlsOptionsOf } from "./security.ts";
import { authTypeOf, type KafkaFields, usesTls } from "./settings.ts";
import { toKafkaTopic } from "./topic-names.ts";
import { Topics } from "./topics.ts";

/** How long a publish waits for a cluster that is away. */
const publishWithinMs = 10_000;

const acksByName = { all: -1, local: 1, none: 0 } as const;

/** Connects to the cluster. Gives up when the context's signal aborts. */
export async function openKafka(fields: KafkaFields, context: OpenContext): Promise<KafkaPubSub> {
  const { name, signal } = context;
  const connections = new Connections(await connector(fields, context));
  const closeAll = () => connections.close();
  signal.addEventListener("abort", closeAll, { once: true });
  try {
    const client = connections.open();
    const topics = new Topics(
      client,
      topicSettings(fields),
      fields.clientConnectionTopicMetadataRefreshInterval,
    );
    // Whether there is a Kafka that lets us in.
    await abortable(client.metadata([], false), signal);
    for (const topic of declaredTopics(fields))
      await persist(() => topics.ensure(toKafkaTopic(topic)), { signal, limitMs: publishWithinMs });
    const producer = new Producer(connections.open(), topics, producerSettings(fields), codecs);
    const { log } = context.telemetry;
    const delays = fields.retryTopics ?? [];
    const consumers = new Consumers({
      retry: delays.length > 0 ? new RetryTopics({ producer, topics, delays }) : undefined,
      client,
      topics,
      settings: consumerSettings(fields),
      connect: () => connections.open(),
      headers: headerFilter(fields),
      log: (message, more) => log.debug({ ...more }, message),
      warn: (message, more) => log.warn({ ...more }, message),
    });
    const forgetDistances = showDistances(context, consumers);
    return new KafkaPubSub({
      name,
      client,
      topics,
      producer,
      consumers,
      contentMode: fields.contentMode || "structured",
      publishWithinMs,
      close: () => {
        forgetDistances();
        closeAll();
      },
    });
  } catch (error) {
    closeAll();
    throw error;
  } finally {
    signal.removeEventListener("abort", closeAll);
  }
}

/** The connections of one component, which end with it. */
class Connections {
  readonly #connect: () => KafkaClient;
  readonly #open = new Set<KafkaClient>();

  constructor(connect: () => KafkaClient) {
    this.#connect = connect;
  }

  /** One more. Whoever has it may close it before the others. */
  open(): KafkaClient {
    const client = this.#connect();
    this.#open.add(client);
    const close = client.close.bind(client);
    client.close = () => {
      this.#open.delete(client);
      close();
    };
    return client;
  }

  close(): void {
    for (const client of this.#open) client.close();
  }
}

/** Makes connections to the cluster, as often as asked for; none is made before it is needed. */
async function connector(fields: KafkaFields, context: OpenContext): Promise<() => KafkaClient> {
  const library = await loadLibrary();
  const { log } = context.telemetry;
  const tls = tlsOptionsOf({ ...fields, enabled: usesTls(fields) });
  const sasl = saslOf(fields);
  return () =>
    new KafkajsClient(library, {
      brokers: fields.brokers,
      codecs,
      clientId: fields.clientID,
      connectTimeoutMs: fields.dialTimeout,
      requestTimeoutMs: fields.readTimeout,
      keepAliveMs: fields.clientConnectionKeepAliveInterval,
      log: (message, more) => log.debug({ ...more }, message),
      tls,
      sasl: () => sasl,
    });
}

/** Shows how far reading is ahead of what is settled, at each scrape. */
function showDistances(
  { name: component, telemetry: { metrics } }: OpenContext,
  consumers: Consumers,
): () => void {
  const gauge = metrics.gauge(
    "outrider_kafka_unsettled_distance_events",
    "Offsets from the lowest event that is not settled to where reading is.",
    ["component", "topic", "group", "partition"] as const,
  );
  type Labels = Record<"component" | "topic" | "group" | "partition", string>;
  let shown: Labels[] = [];
  const clear = () => {
    for (const labels of shown) gauge.remove(labels);
    shown = [];
  };
  const remove = metrics.onScrape(async () => {
    clear();
    for (const { group, topic, partition, distance } of consumers.distances) {
      const labels = { component, topic, group, partition: String(partition) };
      gauge.with(labels).set(distance);
      shown.push(labels);
    }
  });
  return () => {
    remove();
    clear();
  };
}

function saslOf(fields: KafkaFields): SaslSettings | undefined {
  const auth = authTypeOf(fields);
  if (auth === "password") {
    const { saslUsername: username, saslPassword: password } = fields;
    const name = fields.saslMechanism ?? "";
    const scram = /SHA-(256|512)/.exec(name)?.[1] as "256" | "512" | undefined;
    return { mechanism: scram ? `scram-sha-${scram}` : "plain", username, password };
  }
  if (auth !== "oidc") return undefined;
  const tokens = new OidcTokens({
    tokenEndpoint: fields.oidcTokenEndpoint,
    clientId: fields.oidcClientID,
    clientSecret: fields.oidcClientSecret,
    scopes: fields.oidcScopes,
    audience: fields.oidcAudience,
    resource: fields.oidcResource,
    extensions: fields.oidcExtensions ?? {},
  });
  return { mechanism: "oauthbearer", oauthBearerProvider: () => tokens.token() };
}

function topicSettings(fields: KafkaFields) {
  const { createTopics, topicPartitions, topicReplicationFactor, topicConfigs } = fields;
  const asked =
    topicPartitions !== undefined || topicReplicationFactor !== undefined || topicConfigs !== undefined;
  return {
    create: createTopics ?? (asked ? true : undefined),
    partitions: topicPartitions ?? -1,
    replicationFactor: topicReplicationFactor ?? -1,
    configs: topicConfigs ?? {},
  };
}

function producerSettings(fields: KafkaFields) {
  return {
    acks: acksByName[fields.producerRequiredAcks || "all"],
    maxBatchBytes: fields.maxMessageBytes,
    codec: codecNumbers[fields.compression || "none"],
    limitMs: publishWithinMs,
  };
}

function consumerSettings(fields: KafkaFields) {
  return {
    minBytes: fields.consumerFetchMin,
    partitionBytes: fields.consumerFetchDefault,
    maxDistance: fields.maxUnsettledDistance,
    whenOutOfRange: fields.initialOffset === "newest" ? "latest" : "earliest",
    instanceId: fields.groupInstanceId,
    sessionTimeoutMs: fields.sessionTimeout,
    heartbeatMs: fields.heartbeatInterval,
    commitMs: fields.commitInterval,
    rebalanceTimeoutMs: fields.rebalanceTimeout,
    refreshMs: fields.topicRefreshInterval,
  } as const;
}

/** Topics that the component names: they are there before anybody uses them. */
function declaredTopics({ publishTopic, subscribeTopics }: KafkaFields): ReadonlySet<string> {
  return new Set([...(publishTopic === "" ? [] : [publishTopic]), ...(subscribeTopics ?? [])]);
}

/** What an application gets of a record's headers. */
function headerFilter({ excludeHeaderMetaRegex, escapeHeaders: escaped }: KafkaFields) {
  const exclude = excludeHeaderMetaRegex === "" ? undefined : new RegExp(excludeHeaderMetaRegex);
  return (headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> => {
    if (!exclude && !escaped) return headers;
    const kept = Object.entries(headers).filter(([name]) => !exclude?.test(name));
    return Object.fromEntries(
      escaped ? kept.map(([name, value]) => [name, encodeURIComponent(value)]) : kept,
    );
  };
}
