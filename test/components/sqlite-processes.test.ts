import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { Child, type Line } from "./child.ts";
import { Directory } from "./sqlite-directory.ts";

describe("processes that share an embedded store", () => {
  let directory: Directory;
  let children: Child[];
  let pubsub: PubSubFixture;
  const child = (...args: string[]) => {
    const started = new Child("sqlite-child.ts", directory.path, ...args);
    children.push(started);
    return started;
  };

  beforeEach(async () => {
    directory = await Directory.make();
    children = [];
    pubsub = new PubSubFixture();
    pubsub.use(await directory.pubsub(), undefined);
  });
  afterEach(async () => {
    await Promise.all(children.map((started) => started.kill()));
    await pubsub.close();
    await directory.remove();
  });

  it("share topics: what one publishes, the other receives", async () => {
    const subscription = await pubsub.open("shared", { group: "g" });
    child("publish", "shared");
    expect(await pubsub.consume(subscription, 100)).toHaveLength(100);
  });

  it("compete for the events of a group: each goes to one of them", async () => {
    const consumers = [child("consume", "work", "g"), child("consume", "work", "g")];
    for (const consumer of consumers) await consumer.said("ready");
    const texts = Array.from({ length: 2000 }, (_, i) => String(i));
    for (let i = 0; i < texts.length; i += 50) await pubsub.publish("work", texts.slice(i, i + 50));
    const received = () =>
      consumers.flatMap(({ lines }) => lines.flatMap((line) => (line.received ? [line.received] : [])));
    await expect.poll(() => received().length, { timeout: 20_000 }).toBeGreaterThanOrEqual(texts.length);
    expect(received().toSorted()).toEqual(texts.toSorted());
  });

  it("give back what a killed one held, with the attempt counted", async () => {
    await pubsub.publish("held", ["a", "b", "c"]);
    const holder = child("hold", "held", "g");
    await holder.said("received", 3);
    const subscription = await pubsub.open("held", { group: "g" });
    await holder.kill();
    const received = await pubsub.take(subscription, 3);
    expect(received.map((event) => [textOf(event), event.attempt])).toEqual([
      ["a", 2],
      ["b", 2],
      ["c", 2],
    ]);
  });

  it("do not take from one that lives, however long it works", async () => {
    await pubsub.publish("held", ["a"]);
    const holder = child("hold", "held", "g");
    await holder.said("received", 1);
    const subscription = await pubsub.open("held", { group: "g" });
    expect(await pubsub.rest(subscription)).toEqual([]);
    await holder.kill();
    expect(await pubsub.takeTexts(subscription, 1)).toEqual(["a"]);
  });

  it("forget the broadcast group of a killed one", async () => {
    await pubsub.publish("others", ["the file is open here, too"]);
    const listener = child("hold", "news");
    await listener.said("joined");
    const groups = () => {
      const file = new DatabaseSync(`${directory.path}/outrider.db`, { readOnly: true });
      const { n } = file.prepare("SELECT count(*) AS n FROM groups").get()!;
      file.close();
      return n;
    };
    expect(groups()).toBe(1);
    await listener.kill();
    await expect.poll(groups, { timeout: 10_000 }).toBe(0);
  });

  it("lose nothing that was acknowledged when one is killed in the middle, and keep the order of keys", async () => {
    const acknowledged = new Set<string>();
    for (let round = 0; round < 5; round += 1) {
      const publisher = child("publish", "log", `r${round}-`);
      await publisher.said("acknowledged", 300);
      await publisher.kill();
      for (const line of publisher.lines) if (line.acknowledged) acknowledged.add(line.acknowledged);
    }
    const subscription = await pubsub.open("log", { group: "reader", ordered: true });
    const texts: string[] = [];
    while ((await subscription.lag!(pubsub.call())).events > 0)
      texts.push(...(await pubsub.consume(subscription, 1)));
    expect(new Set(texts).size).toBe(texts.length);
    expect([...acknowledged].filter((text) => !texts.includes(text))).toEqual([]);
    const last = new Map<string, number>();
    for (const text of texts) {
      const [publisher = "", number = ""] = text.split(":");
      expect(Number(number)).toBe((last.get(publisher) ?? -1) + 1);
      last.set(publisher, Number(number));
    }
  });

  it("never give an etag twice, and have every acknowledged write, however often one is killed", async () => {
    const state = await directory.state();
    const etags = new Set<string>();
    let count = 0;
    for (let round = 0; round < 4; round += 1) {
      const writer = child("write", `r${round}-`);
      await writer.said("etag", 100);
      await writer.kill();
      const last = new Map<string, Line>();
      for (const line of writer.lines) {
        if (line.etag === undefined) continue;
        etags.add(line.etag);
        count += 1;
        last.set(line.key!, line);
      }
      const items = await state.get([...last.keys()], pubsub.call());
      for (const [index, { number }] of [...last.values()].entries()) {
        expect(Number(Buffer.from(items[index]!.value!).toString())).toBeGreaterThanOrEqual(number!);
      }
    }
    expect(etags.size).toBe(count);
    await state.close();
  });

  it("make a new file once when four start at the same time, and all of them work", async () => {
    const fresh = await Directory.make();
    const starters = Array.from({ length: 4 }, () => new Child("sqlite-child.ts", fresh.path, "open"));
    children.push(...starters);
    for (const starter of starters) await starter.said("ready");
    expect(await Promise.all(starters.map((starter) => starter.end()))).toEqual([0, 0, 0, 0]);
    await fresh.remove();
  });

  it("hear of what others do at once although the directory cannot be watched", async () => {
    const driver = await directory.pubsubWithoutWatch();
    const subscription = await driver.open(pubsub.spec("quick"), pubsub.call());
    const waiting = pubsub.take(subscription, 1);
    child("publish", "quick");
    expect((await waiting).map(textOf)[0]).toMatch(/:0$/);
    await driver.close();
  });
});
