import { DatabaseSync } from "node:sqlite";
import { create, equals, fromBinary, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EventSchema } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { OrderConflict, type PubSubDriver, UnknownPosition } from "../../src/blocks/pubsub/driver.ts";
import { numbered, outgoing, PubSubFixture, textOf } from "../conformance/pubsub/fixture.ts";
import { Directory } from "./sqlite-directory.ts";

describe("the log in an embedded store", () => {
  let directory: Directory;
  let pubsub: PubSubFixture;
  beforeEach(async () => {
    directory = await Directory.make();
  });
  afterEach(async () => {
    await pubsub.close();
    await directory.remove();
  });

  const use = async (fields: Record<string, string> = {}): Promise<PubSubDriver> => {
    pubsub = new PubSubFixture();
    const driver = await directory.pubsub(fields);
    pubsub.use(driver, undefined);
    return driver;
  };
  const restart = async (fields: Record<string, string> = {}): Promise<void> => {
    await pubsub.close();
    await use(fields);
  };
  const rows = (table: string): number => {
    const file = new DatabaseSync(`${directory.path}/outrider.db`, { readOnly: true });
    const { n } = file.prepare(`SELECT count(*) AS n FROM ${table}`).get()!;
    file.close();
    return n as number;
  };

  it("is there after a restart, with what each group has settled", async () => {
    await use();
    const before = await pubsub.open("t", { group: "g" });
    await pubsub.publish("t", numbered(5));
    expect(await pubsub.consume(before, 2)).toEqual(["0", "1"]);
    await restart();
    const after = await pubsub.open("t", { group: "g" });
    expect(await pubsub.consume(after, 3)).toEqual(["2", "3", "4"]);
    expect(await pubsub.rest(after)).toEqual([]);
  });

  it("settles once what it could not settle in time: not what the member has received again since", async () => {
    const driver = await use({ timeout: "1s" });
    const subscription = await pubsub.open("t", { ordered: true });
    await pubsub.publish("t", numbered(2, "", "k"));
    const held = await pubsub.take(subscription, 1);
    const receiving = pubsub.take(subscription, 1);
    await pubsub.publish("other", ["the one that receives waits now"]);
    const lock = new DatabaseSync(`${directory.path}/outrider.db`);
    lock.exec("BEGIN IMMEDIATE");
    // As the engine does.
    const settling = pubsub
      .again(subscription, held)
      .catch(() => pubsub.again(subscription, held).catch(() => {}));
    await expect(driver.publish("t", [outgoing("late")], pubsub.call())).rejects.toThrow();
    lock.exec("COMMIT");
    lock.close();
    await settling;
    const again = await receiving;
    expect(again.map((one) => [textOf(one), one.attempt])).toEqual([["0", 2]]);
    expect(await pubsub.rest(subscription)).not.toContain("0");
  });

  it("has events as messages: those of other versions are read, and what these add is passed over", async () => {
    await use();
    await pubsub.publish("t", numbered(3));
    await pubsub.close();
    const attributes = {
      id: "1",
      source: "s",
      type: "t",
      time: { seconds: -1n, nanos: 5 },
      data: Buffer.from("d"),
    };
    const usual = create(EventSchema, { ...attributes, extensions: { b: "1", a: "2" } });
    // U+FFFD is for protobuf-es, like fields that are not known.
    const unusual = create(EventSchema, { ...attributes, subject: "\ufffd" });
    unusual.$unknown = [{ no: 99, wireType: 0, data: Uint8Array.of(1) }];
    const file = new DatabaseSync(`${directory.path}/outrider.db`);
    const blobs = file.prepare("SELECT id, event FROM events ORDER BY id").all();
    expect(fromBinary(EventSchema, blobs[0]!["event"] as Uint8Array)).toMatchObject({
      type: "dev.outrider.test",
    });
    const change = file.prepare("UPDATE events SET event = ? WHERE id = ?");
    change.run(toBinary(EventSchema, usual), blobs[0]!["id"]!);
    change.run(toBinary(EventSchema, unusual), blobs[1]!["id"]!);
    file.close();
    await use();
    const received = await pubsub.take(await pubsub.open("t"), 3);
    expect(equals(EventSchema, received[0]!.event, usual)).toBe(true);
    expect(Object.keys(received[0]!.event.extensions)).toEqual(["b", "a"]);
    expect(equals(EventSchema, received[1]!.event, unusual)).toBe(true);
    expect(textOf(received[2]!)).toBe("2");
  });

  it("counts attempts across restarts", async () => {
    await use();
    const before = await pubsub.open("t", { group: "g" });
    await pubsub.publish("t", ["a"]);
    await pubsub.again(before, await pubsub.take(before, 1));
    await pubsub.again(before, await pubsub.take(before, 1));
    await restart();
    const [event] = await pubsub.take(await pubsub.open("t", { group: "g" }), 1);
    expect(event?.attempt).toBe(3);
  });

  it("keeps what is delivered later across restarts, and delivers it once", async () => {
    await use();
    const soon = Date.now() + 700;
    await pubsub.publish("t", [outgoing("later", { deliverAtMs: soon }), outgoing("now")]);
    await restart();
    const other = await directory.pubsub();
    const members = [await pubsub.open("t", { group: "a" }), await pubsub.open("t", { group: "b" }, other)];
    for (const member of members) {
      expect(await pubsub.consume(member, 2)).toEqual(["now", "later"]);
      expect(Date.now()).toBeGreaterThanOrEqual(soon);
      expect(await pubsub.rest(member)).toEqual([]);
    }
    expect(rows("scheduled")).toBe(0);
    await pubsub.closeSubscriptions();
    await other.close();
  });

  it("removes what all groups have settled", async () => {
    await use();
    const [first, second] = [await pubsub.open("t"), await pubsub.open("t")];
    await pubsub.publish("t", numbered(1500));
    await pubsub.consume(first, 1500);
    await pubsub.consume(second, 700);
    await expect.poll(() => rows("events"), { timeout: 10_000 }).toBe(800);
    await pubsub.consume(second, 800);
    await expect.poll(() => rows("events"), { timeout: 10_000 }).toBe(0);
    const lag = await second.lag!(pubsub.call());
    expect(lag).toEqual({ events: 0, trimmedUnsettled: 0 });
  });

  it("keeps what nobody has read yet", async () => {
    await use();
    await pubsub.publish("t", ["kept"]);
    const other = await pubsub.open("other");
    await pubsub.publish("other", ["gone"]);
    await pubsub.consume(other, 1);
    await expect.poll(() => rows("events"), { timeout: 10_000 }).toBe(1);
    expect(await pubsub.takeTexts(await pubsub.open("t"), 1)).toEqual(["kept"]);
  });

  it("removes what is too old and tells each group how much of it was not settled", async () => {
    await use({ retentionAge: "500ms" });
    const reader = await pubsub.open("t");
    const holder = await pubsub.open("t");
    await pubsub.publish("t", numbered(10));
    await pubsub.consume(reader, 4);
    const held = await pubsub.take(holder, 3);
    const trimmed = async () => {
      const lags = await Promise.all([reader, holder].map((member) => member.lag!(pubsub.call())));
      return lags.map(({ events, trimmedUnsettled }) => [events, trimmedUnsettled]);
    };
    await expect.poll(trimmed, { timeout: 10_000 }).toEqual([
      [0, 6],
      [0, 10],
    ]);
    await pubsub.done(holder, held);
    await pubsub.publish("t", ["new"]);
    expect(await pubsub.consume(holder, 1)).toEqual(["new"]);
  });

  it("removes the oldest when a topic takes too much, and frees the keys that waited for them", async () => {
    await use({ retentionBytes: "4Ki" });
    const reader = await pubsub.open("t", { ordered: true });
    await pubsub.publish("t", [outgoing("head", { key: "k" }), outgoing("next", { key: "k" })]);
    expect(await pubsub.takeTexts(reader, 1)).toEqual(["head"]);
    await pubsub.publish("t", numbered(30, "filler".repeat(20)));
    const lag = async () => (await reader.lag!(pubsub.call())).trimmedUnsettled;
    await expect.poll(lag, { timeout: 10_000 }).toBeGreaterThan(2);
    const left = rows("events");
    expect(left).toBeLessThan(30);
    expect(await pubsub.consume(reader, left)).toHaveLength(left);
    await pubsub.publish("t", [outgoing("again", { key: "k" })]);
    expect(await pubsub.consume(reader, 1)).toEqual(["again"]);
  });

  it("removes what is too old of topics that nobody touches, after a restart too", async () => {
    await use();
    await pubsub.publish("t", numbered(3));
    await restart({ retentionAge: "200ms" });
    await expect.poll(() => rows("events"), { timeout: 10_000 }).toBe(0);
  });

  it("never gives a position twice, though all events are gone", async () => {
    await use();
    const [first] = await pubsub.publish("t", ["a"]);
    await pubsub.consume(await pubsub.open("t"), 1);
    await expect.poll(() => rows("events"), { timeout: 10_000 }).toBe(0);
    await restart();
    const [second] = await pubsub.publish("t", ["b"]);
    expect(Number(second!.position)).toBeGreaterThan(Number(first!.position));
  });

  it("reads past 10,000 events of a key that is held, and goes on when it is settled", async () => {
    await use();
    const reader = await pubsub.open("t", { group: "g", ordered: true });
    for (let i = 0; i < 12; i += 1) await pubsub.publish("t", numbered(1000, `${i}-`, "held"));
    await pubsub.publish("t", [outgoing("other", { key: "other" })]);
    const [held] = await pubsub.take(reader, 1);
    expect(textOf(held!)).toBe("0-0");
    // Over the limit of what may wait for its key: the group reads on when it gets shorter.
    expect(await pubsub.rest(reader)).toEqual([]);
    expect((await reader.lag!(pubsub.call())).events).toBe(12_001);
    await pubsub.done(reader, [held!]);
    for (const next of ["0-1", "0-2", "0-3"]) {
      const texts = await pubsub.consume(reader, 1);
      expect(texts).toEqual([next]);
    }
  });

  it("lets a group change its mind about order while it has no members, and not otherwise", async () => {
    const driver = await use();
    const unordered = await pubsub.open("t", { group: "g" });
    await pubsub.publish("t", numbered(6, "", "key"));
    await pubsub.take(unordered, 4);
    const refused = driver.open(pubsub.spec("t", { group: "g", ordered: true }), pubsub.call());
    await expect(refused).rejects.toBeInstanceOf(OrderConflict);
    await pubsub.closeSubscription(unordered);
    const ordered = await pubsub.open("t", { group: "g", ordered: true });
    const first = await pubsub.take(ordered, 1);
    expect(await pubsub.rest(ordered)).toEqual([]);
    await pubsub.done(ordered, first);
    const rest: string[] = [];
    while (rest.length < 3) rest.push(...(await pubsub.consume(ordered, 1)));
    expect(rest).toEqual(["1", "2", "3"]);
    await pubsub.closeSubscription(ordered);
    const again = await pubsub.open("t", { group: "g" });
    expect((await pubsub.takeTexts(again, 2)).toSorted()).toEqual(["4", "5"]);
  });

  it("refuses a position that it never gave", async () => {
    const driver = await use();
    for (const position of ["nonsense", "-1", "999999", ""]) {
      const start = { at: "position", position } as const;
      const opening = driver.open(pubsub.spec("t", { start }), pubsub.call());
      await expect(opening).rejects.toBeInstanceOf(UnknownPosition);
    }
  });
});
