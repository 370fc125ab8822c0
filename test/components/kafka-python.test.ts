import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, expect, it } from "vitest";
import { outgoing, textOf } from "../conformance/pubsub/fixture.ts";
import { sharedKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { toolsFolder } from "../servers/tools.ts";
import { KafkaScene } from "./kafka/scene.ts";

/** Where .ci/servers.sh puts it. */
const library = join(toolsFolder(), "kafka-python-3.0.12");
const program = join(import.meta.dirname, "kafka", "client.py");

/** A record as the client tells and takes it. */
interface PythonRecord {
  readonly key: string | null;
  /** In base64. */
  readonly value: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

describeWith("kafka", "a client in Python, which knows nothing of Outrider", () => {
  beforeEach((context) => {
    if (existsSync(library)) return;
    const reason = "kafka-python is not there: .ci/servers.sh fetches it";
    if (process.env["OUTRIDER_TEST_REQUIRE"]?.split(",").includes("python")) throw new Error(reason);
    context.skip(reason);
  });

  let port = 0;

  beforeAll(async () => {
    ({ port } = await sharedKafka());
  }, 60_000);

  const { call, done, driver, fresh, join: open, take } = new KafkaScene(() => port, {}, 30_000);

  /** Runs the client to its end, and gives the records that it told of. */
  async function python(words: readonly string[], records: readonly PythonRecord[] = []) {
    const child = spawn("python3", [program, String(port), ...words], {
      env: { ...process.env, PYTHONPATH: library },
    });
    let [written, errors] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      written += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
    });
    child.stdin.end(records.map((record) => `${JSON.stringify(record)}\n`).join(""));
    const code = await new Promise((resolve) => child.once("close", resolve));
    if (code !== 0) throw new Error(`the client ended with ${code}: ${errors}`);
    const lines = written.split("\n").filter((line) => line !== "");
    return lines.map((line) => JSON.parse(line) as PythonRecord & { readonly partition: number });
  }

  const base64 = (text: string) => Buffer.from(text).toString("base64");
  const plain = (value: string) => Buffer.from(value, "base64").toString();

  it("reads structured events: the document, the key, headers, and the partition of the key", async () => {
    const topic = fresh("python");
    const publisher = await driver({ topicPartitions: "4", compression: "gzip" });
    const told = outgoing("text", { key: "order-7", headers: { header: "ä value" } });
    const [{ position }] = (await publisher.publish(topic, [told], call())) as [{ position: string }];
    const [record] = await python(["read", topic, "1"]);
    expect(record).toMatchObject({ key: "order-7", partition: Number(position.split(":")[0]) });
    expect(record!.headers).toEqual([
      ["header", "ä value"],
      ["content-type", "application/cloudevents+json"],
    ]);
    expect(JSON.parse(plain(record!.value))).toMatchObject({
      specversion: "1.0",
      id: "id-text",
      source: "conformance",
      data: "text",
    });
  }, 60_000);

  it("reads binary events: the data as they are, the attributes in headers", async () => {
    const topic = fresh("python");
    const publisher = await driver({ contentMode: "binary" });
    const { event, ...rest } = outgoing("the data", { headers: { header: "value" } });
    const told = {
      ...event,
      subject: "orders/7",
      dataContentType: "text/plain",
      extensions: { tenant: "blue" },
    };
    await publisher.publish(topic, [{ ...rest, event: told }], call());
    const [record] = await python(["read", topic, "1"]);
    expect(plain(record!.value)).toBe("the data");
    expect(Object.fromEntries(record!.headers)).toMatchObject({
      ce_specversion: "1.0",
      ce_id: "id-the data",
      ce_source: "conformance",
      ce_subject: "orders/7",
      ce_tenant: "blue",
      "content-type": "text/plain",
      header: "value",
    });
  }, 60_000);

  it("writes what is read: structured, binary and plain records, with keys and headers", async () => {
    const topic = fresh("python");
    const subscription = await open(await driver(), topic);
    const document = {
      specversion: "1.0",
      id: "1",
      source: "/py",
      type: "t",
      tenant: "blue",
      data: { n: 1 },
    };
    const attributes = [
      ["ce_specversion", "1.0"],
      ["ce_id", "2"],
      ["ce_source", "/py"],
      ["ce_type", "t"],
      ["ce_time", "2026-11-21T18:00:00Z"],
      ["content-type", "text/plain"],
      ["header", "value"],
    ] as const;
    const structured = [["content-type", "application/cloudevents+json; charset=utf-8"]] as const;
    await python(
      ["write", topic],
      [
        { key: "a", value: base64(JSON.stringify(document)), headers: structured },
        { key: "b", value: base64("binary"), headers: attributes },
        { key: null, value: base64("plain"), headers: [["header", "value"]] },
      ],
    );
    const received = await take(subscription, 3);
    expect(
      received.map(({ event, key, notCloudEvent }) => [event.id, event.source, key, notCloudEvent]),
    ).toEqual([
      ["1", "/py", "a", undefined],
      ["2", "/py", "b", undefined],
      ["", "", "", "there is no envelope"],
    ]);
    const [one, two, three] = received;
    expect(JSON.parse(textOf(one!))).toEqual({ n: 1 });
    expect(one!.event.extensions).toEqual({ tenant: "blue" });
    expect([textOf(two!), two!.event.dataContentType, two!.headers]).toEqual([
      "binary",
      "text/plain",
      { header: "value" },
    ]);
    expect(two!.event.time?.seconds).toBe(BigInt(Date.UTC(2026, 10, 21, 18) / 1000));
    expect([textOf(three!), three!.headers]).toEqual(["plain", { header: "value" }]);
  }, 60_000);

  it("goes on in a group where Outrider was, and Outrider where it was", async () => {
    const [topic, group] = [fresh("python"), fresh("group")];
    const broker = await driver();
    const first = await open(broker, topic, { group });
    await broker.publish(topic, [outgoing("0"), outgoing("1"), outgoing("2"), outgoing("3")], call());
    await done(first, await take(first, 2));
    await first.close();
    const [record] = await python(["read", topic, "1", group]);
    expect(JSON.parse(plain(record!.value))).toMatchObject({ data: "2" });
    const again = await open(broker, topic, { group });
    expect((await take(again, 1)).map(textOf)).toEqual(["3"]);
  }, 60_000);
});
