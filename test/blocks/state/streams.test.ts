import { createHash, randomBytes } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { createHandlerContext } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import {
  type ReadResponse,
  StateService,
  type WatchResponse,
  WatchResponseSchema,
  WriteRequestSchema,
} from "../../../gen/outrider/state/v1/state_pb.ts";
import type { StateDriver } from "../../../src/blocks/state/driver.ts";
import { ValueChanged } from "../../../src/blocks/state/driver.ts";
import { all, bytesOf, expectInvalid, failureOf, openState, requests, textOf } from "./state-client.ts";

const value = bytesOf("v");

/** The context of a call that the test can end. */
const contextOf = (method: "watch" | "read" | "write") =>
  createHandlerContext({
    service: StateService,
    method: StateService.method[method],
    protocolName: "grpc",
    requestMethod: "POST",
    url: "/",
  });

describe("read", () => {
  it("sends the item first, then its value in chunks of at most 256 KiB", async () => {
    const { client } = await openState();
    const large = randomBytes(1_000_000);
    const { etag } = await client.set({
      key: "k",
      value: large,
      contentType: "image/png",
      metadata: { by: "jo" },
    });
    const [first, ...rest] = await all(client.read({ key: "k" }));
    expect(first?.part).toMatchObject({
      case: "item",
      value: { key: "k", etag, contentType: "image/png", metadata: { by: "jo" }, valueBytes: 1_000_000n },
    });
    expect((first!.part.value as { value: Uint8Array }).value).toHaveLength(0);
    const chunks = rest.map(({ part }) => part.value as Uint8Array);
    expect(Math.max(...chunks.map((chunk) => chunk.byteLength))).toBeLessThanOrEqual(256 * 1024);
    expect(Buffer.concat(chunks).equals(large)).toBe(true);
  });

  it("sends nothing when there is no item, and the item alone when its value is empty", async () => {
    const { client } = await openState();
    expect(await all(client.read({ key: "k" }))).toEqual([]);
    await client.set({ key: "k" });
    expect((await all(client.read({ key: "k" }))).map(({ part }) => part.case)).toEqual(["item"]);
  });

  it("keeps its chunks under a message limit that is shorter than they are", async () => {
    const { client } = await openState({ maxMessageBytes: 20_000 });
    await client.set({ key: "k", value: new Uint8Array(100_000) });
    const chunks = (await all(client.read({ key: "k" })))
      .slice(1)
      .map(({ part }) => part.value as Uint8Array);
    expect(Math.max(...chunks.map((chunk) => chunk.byteLength))).toBeLessThan(20_000);
    expect(chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0)).toBe(100_000);
  });

  it("works on stores that have no chunks", async () => {
    const withoutChunks = (driver: StateDriver): StateDriver => ({
      supports: { ...driver.supports, chunks: false },
      get: (keys, call) => driver.get(keys, call),
      write: (writes, call) => driver.write(writes, call),
      ping: (call) => driver.ping(call),
      classify: () => undefined,
      close: () => driver.close(),
    });
    const { client } = await openState({ wrap: withoutChunks });
    await client.set({ key: "k", value: new Uint8Array(600_000) });
    const parts = await all(client.read({ key: "k" }));
    expect(parts.map(({ part }) => part.case)).toEqual(["item", "chunk", "chunk", "chunk"]);
  });

  it("says VALUE_CHANGED when the store says so half-way", async () => {
    const { client, driver } = await openState();
    await client.set({ key: "k", value });
    driver.read = async () => ({
      item: (await driver.get(["app||k"], { signal: AbortSignal.timeout(1000) }))[0]!,
      chunks: (async function* () {
        yield value;
        throw new ValueChanged();
      })(),
    });
    expect(await failureOf(all(client.read({ key: "k" })))).toMatchObject({
      code: "Aborted",
      reason: "VALUE_CHANGED",
    });
  });
});

describe("write", () => {
  const begin = (more = {}) => ({ case: "begin" as const, value: { key: "k", ...more } });
  const chunk = (bytes: Uint8Array) => ({ case: "chunk" as const, value: bytes });

  it("stores the chunks as one value, and answers with its etag and size", async () => {
    const { client } = await openState();
    const options = { contentType: "text/plain", metadata: { by: "jo" }, timeToLive: { seconds: 60n } };
    const parts = [begin(options), chunk(bytesOf("one ")), chunk(new Uint8Array(0)), chunk(bytesOf("two"))];
    const { etag, valueBytes } = await client.write(requests(...parts));
    expect(valueBytes).toBe(7n);
    const { item } = await client.get({ key: "k" });
    expect(item).toMatchObject({ etag, contentType: "text/plain", metadata: { by: "jo" } });
    expect(textOf(item?.value)).toBe("one two");
    expect(item?.expiresAt).toBeDefined();
  });

  it("stores an empty value when there are no chunks", async () => {
    const { client } = await openState();
    expect((await client.write(requests(begin()))).valueBytes).toBe(0n);
    expect((await client.get({ key: "k" })).item?.valueBytes).toBe(0n);
  });

  it.each([
    ["nothing at all", [], "begin"],
    ["a chunk first", [chunk(value)], "begin"],
    ["a message with no part first", [undefined], "begin"],
    ["two begins", [begin(), begin()], "begin"],
    ["a begin between chunks", [begin(), chunk(value), begin()], "begin"],
    ["a message with no part between chunks", [begin(), chunk(value), undefined], "chunk"],
    ["a value in begin", [begin({ value })], "begin.value"],
    ["a bad key in begin", [begin({ key: "a||b" }), chunk(value)], "begin.key"],
    ["a bad time to live in begin", [begin({ timeToLive: { seconds: 0n } })], "begin.time_to_live"],
  ])("refuses %s, and stores nothing", async (_name, parts, field) => {
    const { client } = await openState();
    await expectInvalid(client.write(requests(...(parts as Parameters<typeof requests>))), field);
    expect((await client.list({})).items).toEqual([]);
  });

  it("refuses a stale etag", async () => {
    const { client } = await openState();
    await client.set({ key: "k", value });
    const precondition = { condition: { case: "etag" as const, value: "stale" } };
    const answer = client.write(requests(begin({ precondition }), chunk(bytesOf("x"))));
    expect(await failureOf(answer)).toMatchObject({ reason: "ETAG_MISMATCH", metadata: { key: "k" } });
    expect(textOf((await client.get({ key: "k" })).item?.value)).toBe("v");
  });

  it("stores nothing when the client leaves half-way", async () => {
    const { service, client } = await openState();
    const context = contextOf("write");
    async function* leaving() {
      yield create(WriteRequestSchema, { part: begin() });
      yield create(WriteRequestSchema, { part: chunk(value) });
      context.abort();
      await new Promise(() => {});
    }
    expect((await failureOf(Promise.resolve(service.write(leaving(), context)))).reason).toBe("CANCELLED");
    expect((await client.get({ key: "k" })).item).toBeUndefined();
  });

  it("and read take 100 MB through the service in chunks, a few at a time", async () => {
    // A driver that keeps nothing but the hash: what is held beside it is the service's.
    const chunkBytes = 256 * 1024;
    const count = 400;
    let made = 0;
    let taken = 0;
    let ahead = 0;
    const { client, driver } = await openState();
    driver.writeChunks = async (_write, chunks) => {
      const hash = createHash("sha256");
      for await (const bytes of chunks) {
        taken++;
        ahead = Math.max(ahead, made - taken);
        hash.update(bytes);
      }
      return hash.digest("hex");
    };
    const hash = createHash("sha256");
    async function* source() {
      yield { part: begin() };
      for (; made < count; made++) {
        const bytes = new Uint8Array(chunkBytes).fill(made);
        hash.update(bytes);
        yield { part: chunk(bytes) };
      }
    }
    const { etag, valueBytes } = await client.write(source());
    expect(valueBytes).toBe(BigInt(count * chunkBytes));
    expect(etag).toBe(hash.digest("hex"));
    expect(ahead).toBeLessThanOrEqual(4);

    let produced = 0;
    let sent = 0;
    driver.read = async () => ({
      item: {
        key: "app||k",
        value: undefined,
        valueBytes: count * chunkBytes,
        etag: "e",
        contentType: "",
        metadata: {},
        expiresAtMs: undefined,
      },
      chunks: (async function* () {
        for (; produced < count; produced++) {
          expect(produced - sent).toBeLessThanOrEqual(4);
          yield new Uint8Array(chunkBytes);
        }
      })(),
    });
    for await (const { part } of client.read({ key: "k" })) if (part.case === "chunk") sent++;
    expect(sent).toBe(count);
  });
});

describe("watch", () => {
  /** Starts a watch and reads its next message with each call. */
  const watching = (
    opened: Awaited<ReturnType<typeof openState>>,
    selector: { key: string } | { prefix: string },
  ) => {
    const context = contextOf("watch");
    const request = {
      $typeName: "outrider.state.v1.WatchRequest" as const,
      component: "",
      resumeAfter: "",
      selector:
        "key" in selector
          ? { case: "key" as const, value: selector.key }
          : { case: "prefix" as const, value: selector.prefix },
    };
    const stream = opened.service.watch(request, context)[Symbol.asyncIterator]();
    return { context, next: async () => (await stream.next()).value as WatchResponse };
  };
  const told = ({ changes }: WatchResponse) => changes.map(({ key, item }) => [key, textOf(item?.value)]);

  it("tells the snapshot, that it is complete, and then changes, with the application's own keys", async () => {
    const opened = await openState();
    await opened.client.set({ key: "a/1", value: bytesOf("1") });
    await opened.client.set({ key: "b/1", value });
    const { next, context } = watching(opened, { prefix: "a/" });
    const snapshot = await next();
    expect(told(snapshot)).toEqual([["a/1", "1"]]);
    expect(snapshot).toMatchObject({ snapshotComplete: true, position: "" });
    await opened.client.set({ key: "a/2", value: bytesOf("2") });
    await opened.client.delete({ key: "a/1" });
    const change = await next();
    expect(told(change)).toEqual([
      ["a/2", "2"],
      ["a/1", undefined],
    ]);
    expect(change.snapshotComplete).toBe(false);
    context.abort();
  });

  it("does not tell of another application's keys in the same store", async () => {
    const opened = await openState();
    const { next, context } = watching(opened, { prefix: "" });
    await next();
    const write = { contentType: "", metadata: {}, expiresAtMs: undefined, precondition: undefined };
    await opened.driver.write([{ kind: "set", key: "other||k", value, ...write }], context);
    await opened.client.set({ key: "mine", value });
    expect(told(await next())).toEqual([["mine", "v"]]);
    context.abort();
  });

  it("ends when the client leaves, while it waits", async () => {
    const opened = await openState();
    const { next, context } = watching(opened, { key: "k" });
    await next();
    const ending = failureOf(next());
    context.abort();
    expect((await ending).reason).toBe("CANCELLED");
    await opened.client.set({ key: "k", value });
  });

  it("splits what is too long for one message, says the rest in the last, and leaves out what never fits", async () => {
    const maxMessageBytes = 100_000;
    const opened = await openState({ maxMessageBytes });
    const sizes = { a: 40_000, b: 40_000, c: 40_000, d: 200_000 };
    for (const [key, size] of Object.entries(sizes))
      await opened.client.set({ key, value: new Uint8Array(size) });
    const { next, context } = watching(opened, { prefix: "" });
    const messages = [await next(), await next()];
    for (const message of messages) {
      expect(toBinary(WatchResponseSchema, message).byteLength).toBeLessThanOrEqual(maxMessageBytes);
    }
    expect(
      messages.map(({ changes }) => changes.map(({ key, item }) => `${key}:${item?.value.byteLength}`)),
    ).toEqual([
      ["a:40000", "b:40000"],
      ["c:40000", "d:0"],
    ]);
    expect(messages[1]?.changes[1]?.item?.valueBytes).toBe(200_000n);
    expect(messages.map(({ snapshotComplete }) => snapshotComplete)).toEqual([false, true]);
    context.abort();
  });

  it("goes on over the wire too", async () => {
    const { client } = await openState();
    const abort = new AbortController();
    const seen: string[] = [];
    const watch = client.watch({ selector: { case: "key", value: "k" } }, { signal: abort.signal });
    const reading = (async () => {
      for await (const message of watch) {
        if (message.snapshotComplete) await client.set({ key: "k", value: bytesOf("news") });
        for (const { item } of message.changes) seen.push(textOf(item?.value)!);
        if (seen.length > 0) abort.abort();
      }
    })();
    await expect(reading).rejects.toMatchObject({ name: "ConnectError" });
    expect(seen).toEqual(["news"]);
  });
});

it("a reader that leaves half-way leaves nothing behind", async () => {
  const { service, client } = await openState();
  await client.set({ key: "k", value: new Uint8Array(1_000_000) });
  const request = { $typeName: "outrider.state.v1.ReadRequest" as const, component: "", key: "k" };
  const stream = service
    .read(request, contextOf("read"))
    [Symbol.asyncIterator]() as AsyncGenerator<ReadResponse>;
  await stream.next();
  await stream.return(undefined);
  expect((await stream.next()).done).toBe(true);
});
