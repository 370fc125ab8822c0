import { describe, expect, it } from "vitest";
import { keyViolation } from "../../../src/blocks/state/keys.ts";
import { bytesOf, expectInvalid, failureOf, openState } from "./state-client.ts";

const value = bytesOf("v");
const days = (count: number) => ({ seconds: BigInt(count * 86_400), nanos: 0 });
const entries = (count: number, size = 1) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [String(i).padStart(4, "0"), "x".repeat(size)]));

describe("keys", () => {
  it.each([
    ["1,024 bytes", "k".repeat(1024)],
    ["1,024 bytes in fewer characters", "é".repeat(512)],
    ["one character", "k"],
    ["a bar", "a|b"],
    ["bars apart", "|a|b|"],
    ["spaces", " "],
    ["characters of two units", "\u{1F600}".repeat(256)],
  ])("may be: %s", async (_name, key) => {
    const { client } = await openState();
    await client.set({ key, value });
    expect((await client.get({ key })).item?.key).toBe(key);
    await client.delete({ key });
  });

  it.each([
    ["empty", ""],
    ["1,025 bytes", "k".repeat(1025)],
    ["1,025 bytes in fewer characters", `${"é".repeat(512)}k`],
    ["a line break", "a\nb"],
    ["a zero", "a\0b"],
    ["DEL", "a\u007Fb"],
    ["a control character beyond ASCII", "a\u0085b"],
    ["the separator", "a||b"],
  ])("may not be: %s", async (_name, key) => {
    const { client } = await openState();
    await expectInvalid(client.get({ key }), "key");
    await expectInvalid(client.set({ key, value }), "key");
    await expectInvalid(client.delete({ key }), "key");
    await expectInvalid(client.batchGet({ keys: ["fine", key] }), "keys[1]");
    await expectInvalid(
      client.transact({ writes: [{ write: { case: "set", value: { key } } }] }),
      "writes[0].set.key",
    );
    const read = client.read({ key })[Symbol.asyncIterator]();
    await expectInvalid(read.next(), "key");
    const watch = client.watch({ selector: { case: "key", value: key } })[Symbol.asyncIterator]();
    await expectInvalid(watch.next(), "key");
  });

  it("may not have half a surrogate pair, which JSON can say and UTF-8 cannot", () => {
    expect(keyViolation("a\uD800b")).toContain("well-formed");
    expect(keyViolation("a\u{1F600}b")).toBeUndefined();
  });

  it("are not repeated in the message that refuses them", async () => {
    const { client } = await openState();
    const { message } = await failureOf(client.get({ key: "k".repeat(1_000_000) }));
    expect(message.length).toBeLessThan(200);
  });
});

describe("metadata", () => {
  it.each([
    ["64 entries", entries(64)],
    ["8 KiB in all", entries(64, 124)],
    ["8 KiB in one entry", { name: "x".repeat(8188) }],
    ["an empty name", { "": "x" }],
  ])("may have %s", async (_name, metadata) => {
    const { client } = await openState();
    await client.set({ key: "k", value, metadata });
    expect((await client.get({ key: "k" })).item?.metadata).toEqual(metadata);
  });

  it.each([
    ["65 entries", entries(65)],
    ["10,000 entries", entries(10_000)],
    ["8 KiB and a byte", { ...entries(63, 124), "0063": "x".repeat(125) }],
    ["8 KiB and a byte in fewer characters", { name: `${"é".repeat(4094)}x` }],
  ])("may not have %s", async (_name, metadata) => {
    const { client } = await openState();
    await expectInvalid(client.set({ key: "k", value, metadata }), "metadata");
  });
});

describe("the content type", () => {
  it("has at most 256 bytes", async () => {
    const { client } = await openState();
    await client.set({ key: "k", value, contentType: "x".repeat(256) });
    await expectInvalid(client.set({ key: "k", value, contentType: "x".repeat(257) }), "content_type");
    await expectInvalid(client.set({ key: "k", value, contentType: "é".repeat(129) }), "content_type");
  });
});

describe("the time to live", () => {
  it.each([
    ["a nanosecond", { seconds: 0n, nanos: 1 }, 1],
    ["1.5 seconds", { seconds: 1n, nanos: 500_000_000 }, 1500],
    ["ten years", days(3652.5), 315_576_000_000],
  ])("may be %s", async (_name, timeToLive, expectedMs) => {
    const { client } = await openState();
    const beforeMs = Date.now();
    const { etag } = await client.set({ key: "k", value, timeToLive });
    expect(etag).not.toBe("");
    if (expectedMs < 1000) return;
    const { expiresAt } = (await client.get({ key: "k" })).item!;
    const expiresAtMs = Number(expiresAt!.seconds) * 1000 + expiresAt!.nanos / 1e6;
    expect(expiresAtMs - beforeMs).toBeGreaterThanOrEqual(expectedMs);
    expect(expiresAtMs - Date.now()).toBeLessThanOrEqual(expectedMs);
  });

  it.each([
    ["zero", { seconds: 0n, nanos: 0 }],
    ["negative", { seconds: -1n, nanos: 0 }],
    ["a negative nanosecond", { seconds: 0n, nanos: -1 }],
    ["ten years and a millisecond", { seconds: 315_576_000n, nanos: 1_000_000 }],
    ["as long as a number can say", { seconds: 9_223_372_036_854_775_807n, nanos: 999_999_999 }],
  ])("may not be %s", async (_name, timeToLive) => {
    const { client } = await openState();
    await expectInvalid(client.set({ key: "k", value, timeToLive }), "time_to_live");
  });
});

describe("preconditions", () => {
  it("that say nothing ask for nothing", async () => {
    const { client } = await openState();
    await client.set({ key: "k", value });
    await client.set({ key: "k", value, precondition: {} });
    await client.delete({ key: "k", precondition: {} });
  });

  it("may not say that absence is false, nor ask for an empty etag", async () => {
    const { client } = await openState();
    const set = (condition: { case: "absent"; value: boolean } | { case: "etag"; value: string }) =>
      client.set({ key: "k", value, precondition: { condition } });
    await expectInvalid(set({ case: "absent", value: false }), "precondition.absent");
    await expectInvalid(set({ case: "etag", value: "" }), "precondition.etag");
  });

  it("of a deletion may not ask for absence", async () => {
    const { client } = await openState();
    for (const absent of [true, false]) {
      const precondition = { condition: { case: "absent" as const, value: absent } };
      await expectInvalid(client.delete({ key: "k", precondition }), "precondition.absent");
    }
  });
});

describe("batches", () => {
  it("have 1 to 1,000 keys", async () => {
    const { client } = await openState();
    await expectInvalid(client.batchGet({ keys: [] }), "keys");
    await expectInvalid(client.batchGet({ keys: new Array(1001).fill("k") }), "keys");
    expect((await client.batchGet({ keys: new Array(1000).fill("k") })).results).toHaveLength(1000);
  });
});

describe("transactions", () => {
  const set = (key: string, more = {}) => ({
    write: { case: "set" as const, value: { key, value, ...more } },
  });
  const remove = (key: string, more = {}) => ({
    write: { case: "delete" as const, value: { key, ...more } },
  });

  it("have 1 to 1,000 writes", async () => {
    const { client } = await openState();
    const writes = Array.from({ length: 1001 }, (_, i) => set(String(i)));
    await expectInvalid(client.transact({ writes: [] }), "writes");
    await expectInvalid(client.transact({ writes }), "writes");
    expect((await client.transact({ writes: writes.slice(1) })).etags).toHaveLength(1000);
  });

  it("have no key twice", async () => {
    const { client } = await openState();
    await expectInvalid(
      client.transact({ writes: [set("a"), set("b"), remove("a")] }),
      "writes[2].delete.key",
    );
  });

  it("name no component within", async () => {
    const { client } = await openState();
    const writes = [set("a", { component: "state" }), remove("b", { component: "x" })];
    await expectInvalid(client.transact({ writes }), "writes[0].set.component", "writes[1].delete.component");
  });

  it("have no write that is nothing", async () => {
    const { client } = await openState();
    await expectInvalid(client.transact({ writes: [set("a"), {}] }), "writes[1]");
  });

  it("name every field at fault at once", async () => {
    const { client } = await openState();
    const bad = { contentType: "x".repeat(300), metadata: entries(65), timeToLive: days(0) };
    const writes = [
      set("", bad),
      remove("b", { precondition: { condition: { case: "absent", value: true } } }),
    ];
    await expectInvalid(
      client.transact({ writes }),
      "writes[0].set.key",
      "writes[0].set.content_type",
      "writes[0].set.metadata",
      "writes[0].set.time_to_live",
      "writes[1].delete.precondition.absent",
    );
    expect((await client.list({})).items).toEqual([]);
  });

  it("with a thousand faults get an answer that fits in a header", async () => {
    const { client } = await openState();
    const writes = Array.from({ length: 1000 }, () => set("a\n".repeat(100)));
    const { fields, message } = await failureOf(client.transact({ writes }));
    expect(fields).toHaveLength(16);
    expect(message).toContain("more violations");
    expect(message.length).toBeLessThan(4000);
  });
});

describe("pages", () => {
  it("have at most 1,000 items", async () => {
    const { client } = await openState();
    await expectInvalid(client.list({ pageSize: 1001 }), "page_size");
    await client.list({ pageSize: 1000 });
  });

  it("take no prefix that no key can have", async () => {
    const { client } = await openState();
    await client.list({ prefix: "p".repeat(1024) });
    for (const prefix of ["p".repeat(1025), "a||", "a\tb"])
      await expectInvalid(client.list({ prefix }), "prefix");
  });

  it("take no token that was made up, changed, or made for another prefix", async () => {
    const { client } = await openState();
    for (const key of ["a1", "a2", "b1"]) await client.set({ key, value });
    const { nextPageToken } = await client.list({ prefix: "a", pageSize: 1 });
    const forged = ["x", "nonsense", "!!!", `${nextPageToken}A`, nextPageToken.slice(1), `${nextPageToken}=`];
    for (const pageToken of forged)
      await expectInvalid(client.list({ prefix: "a", pageToken }), "page_token");
    await expectInvalid(client.list({ prefix: "b", pageToken: nextPageToken }), "page_token");
    expect(
      (await client.list({ prefix: "a", pageToken: nextPageToken })).items.map(({ key }) => key),
    ).toEqual(["a2"]);
  });
});

describe("watches", () => {
  it("are of a key or a prefix", async () => {
    const { client } = await openState();
    const first = (request: Parameters<typeof client.watch>[0]) =>
      client.watch(request)[Symbol.asyncIterator]().next();
    await expectInvalid(first({}), "selector");
    await expectInvalid(first({ selector: { case: "prefix", value: "a||b" } }), "prefix");
  });

  it("take no position that was made up", async () => {
    const { client } = await openState();
    const request = { selector: { case: "prefix" as const, value: "" }, resumeAfter: "nonsense" };
    await expectInvalid(client.watch(request)[Symbol.asyncIterator]().next(), "resume_after");
  });
});
