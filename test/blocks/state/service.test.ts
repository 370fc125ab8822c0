import { toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  BatchGetResponseSchema,
  GetResponseSchema,
  ListResponseSchema,
} from "../../../gen/outrider/state/v1/state_pb.ts";
import { bytesOf, expectInvalid, failureOf, openState, requests, textOf } from "./state-client.ts";

const value = bytesOf("v");
const etagIs = (etag: string) => ({ condition: { case: "etag" as const, value: etag } });
const isAbsent = { condition: { case: "absent" as const, value: true } };

describe("get and set", () => {
  it("return what was stored, and all that was stored with it", async () => {
    const { client } = await openState();
    const stored = {
      key: "k",
      value: bytesOf("{}"),
      contentType: "application/json",
      metadata: { by: "jo" },
    };
    const { etag } = await client.set({ ...stored, timeToLive: { seconds: 60n } });
    const { item } = await client.get({ key: "k" });
    expect(item).toMatchObject({ ...stored, etag, valueBytes: 2n });
    expect(Number(item?.expiresAt?.seconds)).toBeGreaterThan(Date.now() / 1000);
  });

  it("find nothing where there is nothing, which is no error", async () => {
    const { client } = await openState();
    expect((await client.get({ key: "k" })).item).toBeUndefined();
  });

  it("say which component is unknown, and which there are", async () => {
    const { client } = await openState();
    const failure = await failureOf(client.get({ component: "x", key: "k" }));
    expect(failure).toMatchObject({
      code: "NotFound",
      reason: "COMPONENT_NOT_FOUND",
      metadata: { component: "x" },
    });
    expect(failure.message).toContain('"state"');
    const write = client.write(requests({ case: "begin", value: { component: "x", key: "k" } }));
    expect(await failureOf(write)).toMatchObject({ reason: "COMPONENT_NOT_FOUND" });
  });

  it("refuse a stale etag, and name component and key", async () => {
    const { client } = await openState();
    const { etag } = await client.set({ key: "k", value });
    await client.set({ key: "k", value });
    const mismatch = { code: "Aborted", reason: "ETAG_MISMATCH", metadata: { component: "state", key: "k" } };
    const precondition = etagIs(etag);
    expect(await failureOf(client.set({ key: "k", value, precondition }))).toMatchObject(mismatch);
    expect(await failureOf(client.delete({ key: "k", precondition }))).toMatchObject(mismatch);
    expect(await failureOf(client.set({ key: "k", value, precondition: isAbsent }))).toMatchObject(mismatch);
  });

  it("let a write through whose precondition is met", async () => {
    const { client } = await openState();
    const { etag } = await client.set({ key: "k", value, precondition: isAbsent });
    const next = await client.set({ key: "k", value, precondition: etagIs(etag) });
    await client.delete({ key: "k", precondition: etagIs(next.etag) });
    expect((await client.get({ key: "k" })).item).toBeUndefined();
  });

  it("send a value that just fits in a message, and name Read for one that is a byte longer", async () => {
    const maxMessageBytes = 100_000;
    const { client } = await openState({ maxMessageBytes });
    await client.set({ key: "k", value: new Uint8Array(90_000), metadata: { by: "jo" } });
    const room = maxMessageBytes - toBinary(GetResponseSchema, await client.get({ key: "k" })).byteLength;
    await client.set({ key: "k", value: new Uint8Array(90_000 + room), metadata: { by: "jo" } });
    expect(toBinary(GetResponseSchema, await client.get({ key: "k" })).byteLength).toBe(maxMessageBytes);
    await client.set({ key: "k", value: new Uint8Array(90_000 + room + 1), metadata: { by: "jo" } });
    const failure = await failureOf(client.get({ key: "k" }));
    expect(failure).toMatchObject({ code: "FailedPrecondition", reason: "VALUE_TOO_LARGE" });
    expect(failure.message).toContain("Read");
  });
});

describe("batch get", () => {
  it("answers each key in order, missing and repeated ones too", async () => {
    const { client } = await openState();
    await client.set({ key: "a", value: bytesOf("1") });
    const { results } = await client.batchGet({ keys: ["x", "a", "a"] });
    expect(results.map(({ key, item }) => [key, textOf(item?.value)])).toEqual([
      ["x", undefined],
      ["a", "1"],
      ["a", "1"],
    ]);
  });

  it("says so when the values do not fit in a message together, or one not by itself", async () => {
    const maxMessageBytes = 100_000;
    const { client } = await openState({ maxMessageBytes });
    for (const key of ["a", "b", "c"]) await client.set({ key, value: new Uint8Array(40_000) });
    await client.set({ key: "large", value: new Uint8Array(100_000) });
    const response = await client.batchGet({ keys: ["a", "b"] });
    expect(toBinary(BatchGetResponseSchema, response).byteLength).toBeLessThanOrEqual(maxMessageBytes);
    expect(await failureOf(client.batchGet({ keys: ["a", "b", "c"] }))).toMatchObject({
      reason: "VALUE_TOO_LARGE",
    });
    expect(await failureOf(client.batchGet({ keys: ["a", "large"] }))).toMatchObject({
      reason: "VALUE_TOO_LARGE",
      metadata: { key: "large" },
    });
  });

  it("reads no more than a few values when they are too long for a message", async () => {
    let read = 0;
    const { client } = await openState({
      maxMessageBytes: 100_000,
      wrap: (driver) => {
        const get = driver.get.bind(driver);
        driver.get = (keys, call, maxBytes) => {
          read += keys.length;
          return get(keys, call, maxBytes);
        };
        return driver;
      },
    });
    const keys = Array.from({ length: 200 }, (_, number) => `key-${number}`);
    for (const key of keys) await client.set({ key, value: new Uint8Array(20_000) });
    expect(await failureOf(client.batchGet({ keys }))).toMatchObject({ reason: "VALUE_TOO_LARGE" });
    expect(read).toBeLessThan(20);
    for (const key of keys) await client.set({ key, value: bytesOf(key) });
    const { results } = await client.batchGet({ keys });
    expect(results.map(({ item }) => textOf(item?.value))).toEqual(keys);
  });
});

describe("transact", () => {
  it("applies all writes and answers with their etags", async () => {
    const { client } = await openState();
    await client.set({ key: "b", value });
    const { etags } = await client.transact({
      writes: [
        { write: { case: "set", value: { key: "a", value } } },
        { write: { case: "delete", value: { key: "b" } } },
      ],
    });
    expect(etags).toEqual([(await client.get({ key: "a" })).item?.etag, ""]);
    expect((await client.get({ key: "b" })).item).toBeUndefined();
  });

  it("applies none when a precondition fails, and names its key", async () => {
    const { client } = await openState();
    const failure = await failureOf(
      client.transact({
        writes: [
          { write: { case: "set", value: { key: "a", value } } },
          { write: { case: "set", value: { key: "b", value, precondition: etagIs("stale") } } },
        ],
      }),
    );
    expect(failure).toMatchObject({ reason: "ETAG_MISMATCH", metadata: { key: "b" } });
    expect((await client.get({ key: "a" })).item).toBeUndefined();
  });
});

describe("list", () => {
  it("goes through all keys with a prefix, page by page, in order of their bytes", async () => {
    const { client } = await openState();
    const keys = ["a\u{1F600}", "a\uFFFD", "a", "a1", "b", "A"];
    for (const key of keys) await client.set({ key, value });
    const found: string[] = [];
    let pageToken = "";
    do {
      const page = await client.list({ prefix: "a", pageSize: 1, pageToken });
      found.push(...page.items.map(({ key }) => key));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(found).toEqual(["a", "a1", "a\uFFFD", "a\u{1F600}"]);
  });

  it("has 100 items in a page when the request does not say", async () => {
    const { client } = await openState();
    await Promise.all(Array.from({ length: 101 }, (_, i) => client.set({ key: String(i), value })));
    const page = await client.list({});
    expect(page.items).toHaveLength(100);
    const rest = await client.list({ pageToken: page.nextPageToken });
    expect(rest.items).toHaveLength(1);
    expect(rest.nextPageToken).toBe("");
  });

  it("returns values, or with keys_only their sizes", async () => {
    const { client } = await openState();
    await client.set({ key: "a", value: bytesOf("12345") });
    expect(textOf((await client.list({})).items[0]?.value)).toBe("12345");
    const [item] = (await client.list({ keysOnly: true })).items;
    expect(item).toMatchObject({ key: "a", value: new Uint8Array(0), valueBytes: 5n });
  });

  it("ends a page before it gets longer than a message, and leaves out a value that never fits", async () => {
    const maxMessageBytes = 100_000;
    const { client } = await openState({ maxMessageBytes });
    const sizes = { a: 40_000, b: 40_000, c: 40_000, d: 200_000, e: 95_000, f: 1 };
    for (const [key, size] of Object.entries(sizes)) await client.set({ key, value: new Uint8Array(size) });
    const pages: string[] = [];
    let pageToken = "";
    do {
      const page = await client.list({ pageToken });
      expect(toBinary(ListResponseSchema, page).byteLength).toBeLessThanOrEqual(maxMessageBytes);
      pages.push(
        page.items.map((item) => `${item.key}:${item.value.byteLength}/${item.valueBytes}`).join(" "),
      );
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(pages).toEqual(["a:40000/40000 b:40000/40000", "c:40000/40000 d:0/200000", "e:95000/95000 f:1/1"]);
  });

  it("ends a page of keys early too, when their metadata is long", async () => {
    const maxMessageBytes = 100_000;
    const { client } = await openState({ maxMessageBytes });
    const metadata = { long: "x".repeat(8000) };
    await Promise.all(Array.from({ length: 30 }, (_, i) => client.set({ key: String(i), value, metadata })));
    let count = 0;
    let pageToken = "";
    do {
      const page = await client.list({ keysOnly: true, pageToken });
      expect(toBinary(ListResponseSchema, page).byteLength).toBeLessThanOrEqual(maxMessageBytes);
      count += page.items.length;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(count).toBe(30);
  });
});

describe("a request for what the store cannot do", () => {
  it("gets NOT_SUPPORTED, with the capability that is missing", async () => {
    const { client } = await openState({
      wrap: (driver) => ({
        supports: {
          transactions: false,
          timeToLive: false,
          list: false,
          watch: false,
          watchResume: false,
          chunks: false,
        },
        get: (keys, call) => driver.get(keys, call),
        write: (writes, call) => driver.write(writes, call),
        ping: (call) => driver.ping(call),
        classify: (error) => driver.classify(error),
        close: () => driver.close(),
      }),
    });
    const expectMissing = async (answer: Promise<unknown>, capability: string) =>
      expect(await failureOf(answer)).toMatchObject({
        code: "Unimplemented",
        reason: "NOT_SUPPORTED",
        metadata: { component: "state", capability },
      });
    const writes = [{ write: { case: "delete" as const, value: { key: "k" } } }];
    await expectMissing(client.transact({ writes }), "transactions");
    await expectMissing(client.set({ key: "k", value, timeToLive: { seconds: 1n } }), "time-to-live");
    await expectMissing(client.list({}), "list");
    const watch = client.watch({ selector: { case: "key", value: "k" } })[Symbol.asyncIterator]();
    await expectMissing(watch.next(), "watch");
    await expectMissing(client.write(requests({ case: "begin", value: { key: "k" } })), "chunks");
  });

  it("of a watch that resumes gets it too", async () => {
    const { client, store } = await openState();
    const { positionToken } = await import("../../../src/blocks/state/queries.ts");
    const resumeAfter = positionToken(store.name, "17");
    const watch = client
      .watch({ selector: { case: "key", value: "k" }, resumeAfter })
      [Symbol.asyncIterator]();
    expect(await failureOf(watch.next())).toMatchObject({ metadata: { capability: "watch-resume" } });
  });

  it("is checked before the store is asked, so that a wrong field is told first", async () => {
    const { client } = await openState();
    await expectInvalid(client.transact({ writes: [] }), "writes");
  });
});
