/** The configuration of the Kafka broker for tests. */
import type { Certificates } from "./certificates.ts";

/** A listener each, and what it asks of a client. */
export interface KafkaPorts {
  /** No authentication, no encryption. */
  readonly plain: number;
  /** SASL PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, no encryption. */
  readonly sasl: number;
  /** TLS; a client may show a certificate. */
  readonly tls: number;
  /** TLS and SASL. */
  readonly saslTls: number;
  /** TLS; a client must show a certificate. */
  readonly mutualTls: number;
  /** As `plain`, for a proxy: to whoever connects, the broker says that it is at `proxy`. */
  readonly proxied: number;
  /** Where a proxy must listen. */
  readonly proxy: number;
  readonly controller: number;
}

/** The text of a server.properties. */
export function kafkaProperties(
  folder: string,
  ports: KafkaPorts,
  tls: Certificates,
  options: Readonly<Record<string, string>>,
): string {
  const jaas = "org.apache.kafka.common.security";
  const listeners: readonly (readonly [
    name: string,
    protocol: string,
    host: string,
    port: number,
    at?: number,
  ])[] = [
    ["PLAIN", "PLAINTEXT", "127.0.0.1", ports.plain],
    ["SASL", "SASL_PLAINTEXT", "127.0.0.1", ports.sasl],
    ["TLS", "SSL", "localhost", ports.tls],
    ["SASLTLS", "SASL_SSL", "localhost", ports.saslTls],
    ["MTLS", "SSL", "localhost", ports.mutualTls],
    ["PROXIED", "PLAINTEXT", "127.0.0.1", ports.proxied, ports.proxy],
  ];
  const mechanisms: Readonly<Record<string, string>> = {
    plain: `${jaas}.plain.PlainLoginModule required user_admin="admin-secret" user_alice="secret";`,
    "scram-sha-256": `${jaas}.scram.ScramLoginModule required;`,
    "scram-sha-512": `${jaas}.scram.ScramLoginModule required;`,
    oauthbearer: `${jaas}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="alice";`,
  };
  const all: Record<string, string> = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": `1@127.0.0.1:${ports.controller}`,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAIN",
    listeners: [
      ...listeners.map(([name, , , port]) => `${name}://127.0.0.1:${port}`),
      `CONTROLLER://127.0.0.1:${ports.controller}`,
    ].join(","),
    "advertised.listeners": listeners
      .map(([name, , host, port, at]) => `${name}://${host}:${at ?? port}`)
      .join(","),
    "listener.security.protocol.map": [
      ...listeners.map(([name, protocol]) => `${name}:${protocol}`),
      "CONTROLLER:PLAINTEXT",
    ].join(","),
    "log.dirs": `${folder}/log.dirs`,
    "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
    ...Object.fromEntries(
      ["sasl", "sasltls"].flatMap((listener) =>
        Object.entries(mechanisms).map(([name, value]) => [
          `listener.name.${listener}.${name}.sasl.jaas.config`,
          value,
        ]),
      ),
    ),
    "ssl.keystore.type": "PEM",
    "ssl.keystore.location": tls.server.both,
    "ssl.truststore.type": "PEM",
    "ssl.truststore.location": tls.ca,
    "ssl.client.auth": "requested",
    "listener.name.mtls.ssl.client.auth": "required",
    "ssl.principal.mapping.rules": "RULE:^CN=([^,]*).*$/$1/,DEFAULT",
    // Everybody may do everything to what no ACL names; a test that makes an ACL is refused accordingly.
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS;User:admin",
    "allow.everyone.if.no.acl.found": "true",
    "auto.create.topics.enable": "true",
    "num.partitions": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    // A broker that was killed may register again when its old session has run out, not before.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
    "log.segment.bytes": "16777216",
    "log.index.size.max.bytes": "1048576",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "num.network.threads": "2",
    "num.io.threads": "2",
    ...options,
  };
  return Object.entries(all)
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
}
