import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { jetStreamPubSub, jetStreamState } from "../../src/components/jetstream/components.ts";
import { pubSubSchema, serversOf, stateSchema } from "../../src/components/jetstream/settings.ts";
import { fieldsOf } from "../../src/config/shape.ts";

const page = readFileSync(new URL("../../docs/components/jetstream.md", import.meta.url), "utf8");

const problems = (schema: typeof pubSubSchema | typeof stateSchema, fields: Record<string, string>) =>
  schema.safeParse(fields).error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`) ?? [];

describe("docs/components/jetstream.md", () => {
  it.each([jetStreamPubSub, jetStreamState])(
    "has every field of $type, and none that it has not",
    (component) => {
      const fields = Object.keys(fieldsOf(component.schema)!);
      expect(fields.filter((field) => !page.includes(`\`${field}\``))).toEqual([]);
    },
  );

  it("documents no field in its tables that there is not", () => {
    const known = new Set([...Object.keys(fieldsOf(pubSubSchema)!), ...Object.keys(fieldsOf(stateSchema)!)]);
    const rows = [...page.matchAll(/^\| ((?:`\w+`(?: \(ours\))?(?:, )?)+) \|/gm)].map(([, names]) => names!);
    const documented = rows.flatMap((names) => [...names.matchAll(/`(\w+)`/g)].map(([, name]) => name!));
    expect(documented.length).toBeGreaterThan(20);
    expect(documented.filter((field) => !known.has(field))).toEqual([]);
  });
});

describe("the settings of the components on JetStream", () => {
  it("take a file of Dapr's with every field that Dapr has", () => {
    const fields = {
      natsURL: "nats://localhost:4222",
      jwt: "a.b.c",
      seedKey: "SUAELX",
      token: "t",
      tls_client_cert: "/cert.pem",
      tls_client_key: "/key.pem",
      name: "my connection",
      streamName: "myStream",
      durableName: "myDurable",
      queueGroupName: "queue",
      startSequence: "1",
      startTime: "1630349391",
      flowControl: "false",
      ackWait: "10s",
      maxDeliver: "5",
      backOff: "[1s, 2s, 4s]",
      maxAckPending: "5000",
      replicas: "3",
      memoryStorage: "false",
      rateLimit: "1024",
      heartbeat: "15s",
      ackPolicy: "explicit",
      deliverPolicy: "all",
      domain: "hub",
      concurrency: "parallel",
    };
    expect(problems(pubSubSchema, fields)).toEqual([]);
    expect(pubSubSchema.parse(fields)).toMatchObject({
      ackWait: 10_000,
      maxDeliver: 5,
      backOff: [1000, 2000, 4000],
    });
    const { natsURL, jwt, seedKey, name } = fields;
    expect(problems(stateSchema, { natsURL, jwt, seedKey, name, bucket: "b" })).toEqual([]);
  });

  it("refuse what makes no sense, by the field", () => {
    const natsURL = "localhost";
    expect(problems(pubSubSchema, {})).toEqual([expect.stringMatching(/^natsURL: /)]);
    expect(problems(stateSchema, { natsURL })).toEqual([expect.stringMatching(/^bucket: /)]);
    expect(problems(pubSubSchema, { natsURL, jwt: "a" })).toEqual(["seedKey: is missing"]);
    expect(problems(pubSubSchema, { natsURL, tls_client_key: "a" })).toEqual(["tls_client_cert: is missing"]);
    const wrongs: Record<string, string>[] = [
      { natsURL: "http://localhost" },
      { natsURL, ackWait: "10ms" },
      { natsURL, deliverPolicy: "never" },
      { natsURL, streamName: "with space" },
      { natsURL, backOff: "1s,soon" },
      { natsURL, replicas: "9" },
      { natsURL, nosuchfield: "1" },
    ];
    for (const wrong of wrongs) expect(problems(pubSubSchema, wrong)).toHaveLength(1);
  });

  it("understand addresses with ports, users and tokens", () => {
    expect(serversOf("nats://a:1,tls://b, c:80")).toMatchObject({
      addresses: ["a:1", "b:4222", "c:80"],
      tls: true,
    });
    expect(serversOf("nats://user:p%40ss@host")).toMatchObject({
      user: "user",
      password: "p@ss",
      token: undefined,
    });
    expect(serversOf("nats://token@host")).toMatchObject({ user: undefined, token: "token" });
    expect(serversOf("")).toBeUndefined();
  });
});
