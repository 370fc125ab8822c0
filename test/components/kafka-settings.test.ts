import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { kafkaSchema, usesTls } from "../../src/components/kafka/settings.ts";
import { fromKafkaTopic, toKafkaTopic } from "../../src/components/kafka/topic-names.ts";
import { fieldsOf } from "../../src/config/shape.ts";

const page = readFileSync(new URL("../../docs/components/kafka.md", import.meta.url), "utf8");
const fields = Object.keys(fieldsOf(kafkaSchema)!);

const problems = (given: Record<string, string>) =>
  kafkaSchema
    .safeParse({ brokers: "localhost", ...given })
    .error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`) ?? [];

describe("docs/components/kafka.md", () => {
  it("has every field of pubsub.kafka", () => {
    expect(fields.filter((field) => !page.includes(`\`${field}\``))).toEqual([]);
  });

  it("documents no field in its tables that there is not", () => {
    const rows = [...page.matchAll(/^\| ((?:`\w+`(?: \(ours\))?(?:, )?)+(?: \(ours\))?) \|/gm)].map(
      ([, names]) => names!,
    );
    const documented = rows.flatMap((names) => [...names.matchAll(/`(\w+)`/g)].map(([, name]) => name!));
    expect(documented.length).toBeGreaterThan(35);
    expect(documented.filter((field) => !fields.includes(field))).toEqual([]);
  });
});

describe("the settings of pubsub.kafka", () => {
  it("take a file of Dapr's with the fields that Dapr has", () => {
    const given = {
      brokers: "a:9092, b:9093",
      consumerGroup: "group",
      clientID: "client",
      authType: "password",
      saslUsername: "user",
      saslPassword: "password",
      saslMechanism: "SHA-512",
      maxMessageBytes: "1024",
      consumeRetryInterval: "200ms",
      consumeRetryEnabled: "true",
      heartbeatInterval: "5s",
      sessionTimeout: "15s",
      version: "2.0.0",
      disableTls: "true",
      channelBufferSize: "512",
      consumerFetchMin: "1",
      consumerFetchDefault: "2Mi",
      consumerGroupRebalanceStrategy: "sticky",
      compression: "zstd",
      initialOffset: "oldest",
      producerRequiredAcks: "all",
      producerRetryMax: "5",
      dialTimeout: "10",
      clientConnectionTopicMetadataRefreshInterval: "9m",
      useAvroJSON: "false",
      escapeHeaders: "true",
      excludeHeaderMetaRegex: "^private-",
    };
    expect(problems(given)).toEqual([]);
    expect(kafkaSchema.parse(given)).toMatchObject({
      brokers: [
        { host: "a", port: 9092 },
        { host: "b", port: 9093 },
      ],
      sessionTimeout: 15_000,
      dialTimeout: 10_000,
      consumerFetchDefault: 2 * 1024 * 1024,
    });
  });

  it.each([
    [{ brokers: "http://localhost" }, "brokers: expected"],
    [{ authType: "password" }, "saslUsername: must be set"],
    [{ authType: "oidc" }, "oidcTokenEndpoint: must be set"],
    [{ authType: "certificate" }, "clientCert: must be set"],
    [{ authType: "awsiam" }, 'authType: "awsiam" is not in this build'],
    [{ clientCert: "/cert.pem" }, "clientKey: must be set"],
    [{ sessionTimeout: "3s", heartbeatInterval: "2s" }, "heartbeatInterval: must be at most half"],
    [{ topicConfigs: "retention" }, 'topicConfigs: expected "name=value"'],
    [{ schemaRegistryURL: "http://localhost:8081" }, "schemaRegistryURL: expected none"],
    [{ excludeHeaderMetaRegex: "(" }, "excludeHeaderMetaRegex: expected a regular expression"],
  ] as [Record<string, string>, string][])("refuse %j", (given, expected) => {
    expect(problems(given).join("\n")).toContain(expected);
  });

  it("use TLS with every authentication, and whenever there is a certificate", () => {
    const tls = (given: Record<string, string>) =>
      usesTls(kafkaSchema.parse({ brokers: "localhost", ...given }));
    const password = { authType: "password", saslUsername: "user", saslPassword: "password" };
    expect(tls({})).toBe(false);
    expect(tls(password)).toBe(true);
    expect(tls({ ...password, disableTls: "true" })).toBe(false);
    expect(tls({ caCert: "/ca.pem" })).toBe(true);
  });
});

describe("groupInstanceId", () => {
  it("is what Kafka takes for a name, or nothing", () => {
    expect(kafkaSchema.parse({ brokers: "localhost" }).groupInstanceId).toBe("");
    const podName = "shipping-0.x_Y";
    expect(kafkaSchema.parse({ brokers: "localhost", groupInstanceId: podName }).groupInstanceId).toBe(
      podName,
    );
    for (const wrong of ["a b", "ü", ".", "..", "{other}", "x".repeat(250)]) {
      expect(problems({ groupInstanceId: wrong })).toEqual([
        'groupInstanceId: expected at most 249 letters, digits, ".", "_" and "-"',
      ]);
    }
  });
});

describe("topics whose names Kafka does not allow", () => {
  it("are escaped, each in one way, and come back as they were", () => {
    const names = [
      "plain.topic-1_x",
      "Straße 日本",
      "a/b",
      "x--",
      "x--a",
      "x--2d",
      "..",
      ".",
      "a b",
      "a-20b",
      "-",
    ];
    const escaped = names.map(toKafkaTopic);
    expect(escaped[0]).toBe("plain.topic-1_x");
    expect(new Set(escaped).size).toBe(names.length);
    for (const name of escaped) expect(name).toMatch(/^[A-Za-z0-9._-]{1,249}$/);
    expect(escaped.map(fromKafkaTopic)).toEqual(names);
  });

  it("are refused when they would be too long", () => {
    expect(() => toKafkaTopic("ü".repeat(120))).toThrow("too long");
  });
});
