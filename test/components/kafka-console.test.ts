import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { beforeAll, beforeEach, expect, it, onTestFinished } from "vitest";
import { outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { sharedKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { kafkaJars, program, toolsFolder } from "../servers/tools.ts";
import { openKafkaDriver } from "./kafka/driver.ts";

/** Kafka's tools, which are no part of a broker. */
const consoleJars = join(toolsFolder(), "kafka-console-4.3.1");

describeWith("kafka", "Kafka's own console clients", () => {
  beforeEach((context) => {
    if (!existsSync(consoleJars))
      context.skip("Kafka's console clients are not there: .ci/servers.sh fetches them");
  });

  let port = 0;
  let topics = 0;

  beforeAll(async () => {
    ({ port } = await sharedKafka());
  }, 60_000);

  const call = () => ({ signal: AbortSignal.timeout(30_000) });
  const fresh = () => `console-${process.pid}-${Date.now()}-${topics++}`;

  async function driver(fields: Record<string, string> = {}) {
    const opened = await openKafkaDriver(port, fields);
    onTestFinished(() => opened.close());
    return opened;
  }

  /** Runs one of Kafka's tools to its end, and gives what it wrote. */
  async function tool(name: string, words: readonly string[], input = ""): Promise<string> {
    const child = spawn(program("java"), [
      "-Xmx128m",
      "-XX:TieredStopAtLevel=1",
      "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
      "-cp",
      `${join(kafkaJars()!, "*")}${delimiter}${join(consoleJars, "*")}`,
      name,
      "--bootstrap-server",
      `127.0.0.1:${port}`,
      ...words,
    ]);
    let [written, errors] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      written += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
    });
    child.stdin.end(input);
    const code = await new Promise((resolve) => child.once("close", resolve));
    if (code !== 0) throw new Error(`${name} ended with ${code}: ${errors}`);
    return written;
  }

  const consume = (topic: string, count: number) =>
    tool("org.apache.kafka.tools.consumer.ConsoleConsumer", [
      "--topic",
      topic,
      "--from-beginning",
      "--max-messages",
      String(count),
      "--formatter-property",
      "print.headers=true",
      "--formatter-property",
      "print.key=true",
    ]);

  const produce = (topic: string, line: string, ...words: string[]) =>
    tool("org.apache.kafka.tools.ConsoleProducer", ["--topic", topic, ...words], `${line}\n`);

  it.each(["snappy", "lz4"])(
    "read what was written, compressed with %s: structured, raw, with key and headers",
    async (compression) => {
      const topic = fresh();
      const publisher = await driver({ compression });
      const text = "a text that repeats itself, a text that repeats itself, a text that repeats itself";
      const headers = { header: "value" };
      await publisher.publish(
        topic,
        [outgoing(text, { key: "k", headers }), outgoing("bytes", { raw: true })],
        call(),
      );
      const [structured, raw] = (await consume(topic, 2)).trim().split("\n");
      const [shown, key, document] = structured!.split("\t");
      expect(shown).toBe("header:value,content-type:application/cloudevents+json");
      expect(key).toBe("k");
      expect(JSON.parse(document!)).toMatchObject({ specversion: "1.0", source: "conformance", data: text });
      expect(raw).toBe("NO_HEADERS\tnull\tbytes");
    },
    60_000,
  );

  it("read binary mode: the data as it is, the attributes in headers", async () => {
    const topic = fresh();
    const publisher = await driver({ contentMode: "binary" });
    await publisher.publish(topic, [outgoing("the data")], call());
    const [headers, , value] = (await consume(topic, 1)).trim().split("\t");
    expect(headers).toContain("ce_specversion:1.0,ce_id:id-the data,ce_source:conformance");
    expect(value).toBe("the data");
  }, 60_000);

  it("write what is read: structured without a header, binary mode, and bytes that are no CloudEvent", async () => {
    const topic = fresh();
    const reader = await driver();
    const start = { at: "earliest" } as const;
    const subscription = await reader.open(
      { topic, group: fresh(), start, ordered: false, raw: false },
      call(),
    );
    const document = {
      specversion: "1.0",
      id: "1",
      source: "s",
      type: "t",
      datacontenttype: "text/plain",
      data: "structured",
    };
    await produce(topic, JSON.stringify(document), "--compression-codec", "snappy");
    await produce(
      topic,
      "ce_specversion:1.0,ce_id:2,ce_source:s,ce_type:t,content-type:text/plain\tk\tbinary",
      ...["--reader-property", "parse.headers=true", "--reader-property", "parse.key=true"],
      ...["--compression-codec", "lz4"],
    );
    await produce(topic, "plain", "--compression-codec", "zstd");
    const received = [];
    while (received.length < 3) received.push(...(await subscription.receive(3, call())));
    expect(received.map((one) => [textOf(one), one.event.id, one.key, one.notCloudEvent])).toEqual([
      ["structured", "1", "", undefined],
      ["binary", "2", "k", undefined],
      ["plain", "", "", "there is no envelope"],
    ]);
  }, 60_000);
});
