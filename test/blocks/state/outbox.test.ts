import { describe, expect, it } from "vitest";
import type { StateDriver } from "../../../src/blocks/state/driver.ts";
import { notesPrefix, writeOf } from "../../../src/blocks/state/outbox-note.ts";
import { stateSettings } from "../../../src/blocks/state/settings.ts";
import { reasonOf } from "../../../src/faults.ts";
import { absent, call, notesIn, Published, remove, set, sidecar, stored, target } from "./outbox-sidecar.ts";
import { openMemory } from "./state-client.ts";

describe("a transaction on a store with an outbox", () => {
  it("publishes an event for each write, in order, and leaves nothing behind", async () => {
    const driver = await openMemory();
    const published = new Published();
    const { store } = sidecar(driver, published.publish);
    const etags = await store.transact([set("a", "1"), set("b", "2"), remove("c")], call());
    expect(etags).toHaveLength(3);
    await expect.poll(() => published.texts).toEqual(["a=1", "b=2", "c deleted"]);
    await expect.poll(() => notesIn(driver)).toBe(0);
    const { event, key } = published.events[0]!;
    expect([event!.source, event!.subject, event!.dataContentType, key]).toEqual([
      "app",
      "a",
      "text/plain",
      "a",
    ]);
    expect(new Set(published.events.map((each) => each.event!.id)).size).toBe(3);
  });

  it("publishes nothing when a precondition fails", async () => {
    const driver = await openMemory();
    const published = new Published();
    const { store } = sidecar(driver, published.publish);
    await driver.write([stored("app||taken")], call());
    const failed = store.transact([set("a", "1"), absent("taken", "2")], call());
    await expect(failed).rejects.toSatisfy((error) => reasonOf(error) === "ETAG_MISMATCH");
    await store.transact([set("after", "3")], call());
    await expect.poll(() => published.texts).toEqual(["after=3"]);
  });

  it("publishes events of transactions in the order in which they were committed", async () => {
    const published = new Published();
    const { store } = sidecar(await openMemory(), published.publish);
    const numbers = Array.from({ length: 200 }, (_, index) => String(index));
    await Promise.all(numbers.map((number) => store.transact([set("counter", number)], call())));
    await expect.poll(() => published.texts).toEqual(numbers.map((number) => `counter=${number}`));
  });

  it("commits while the broker is away, and publishes everything, once, when it is back", async () => {
    const driver = await openMemory();
    const published = new Published();
    published.away = true;
    const { store } = sidecar(driver, published.publish);
    for (const number of ["1", "2", "3"]) await store.transact([set("a", number)], call());
    await expect.poll(() => notesIn(driver)).toBe(3);
    published.away = false;
    await expect.poll(() => published.texts, { timeout: 10_000 }).toEqual(["a=1", "a=2", "a=3"]);
    await expect.poll(() => notesIn(driver)).toBe(0);
  });

  it("publishes what a sidecar left that died between the commit and the publish", async () => {
    const driver = await openMemory();
    const away = new Published();
    away.away = true;
    const first = sidecar(driver, away.publish, { start: false });
    await first.store.transact([set("a", "1")], call());
    await first.outbox.close(AbortSignal.timeout(1000));
    expect(await notesIn(driver)).toBe(1);

    const published = new Published();
    sidecar(driver, published.publish, { instanceId: "two" });
    await expect.poll(() => published.texts, { timeout: 15_000 }).toEqual(["a=1"]);
    await expect.poll(() => notesIn(driver)).toBe(0);
  });

  it("publishes what was committed though the answer of the store got lost", async () => {
    const real = await openMemory();
    const published = new Published();
    let lost = false;
    const driver = Object.create(real, {
      write: {
        value: async (...args: Parameters<StateDriver["write"]>) => {
          const etags = await real.write(...args);
          if (lost || args[0].length < 2) return etags;
          lost = true;
          throw new Error("connection reset");
        },
      },
      list: { value: real.list!.bind(real) },
      get: { value: real.get.bind(real) },
      classify: { value: () => "unavailable" },
      supports: { value: real.supports },
    }) as StateDriver;
    const { store } = sidecar(driver, published.publish);
    await expect(store.transact([set("a", "1")], call())).rejects.toThrow();
    await expect.poll(() => published.texts).toEqual(["a=1"]);
  });

  it("has notes that are left published by one of several sidecars", async () => {
    const driver = await openMemory();
    const oldKey = `${notesPrefix("app")}${"1".padStart(15, "0")}-000000-dead`;
    const away = new Published();
    away.away = true;
    const source = sidecar(driver, away.publish, { start: false });
    await source.store.transact([set("a", "1")], call());
    const range = { prefix: notesPrefix("app"), after: undefined, limit: 1, keysOnly: false };
    const [item] = (await driver.list!(range, call())).items;
    await driver.write([{ kind: "delete", key: item!.key, precondition: undefined }], call());
    // As it was left a minute ago by a sidecar that is no more.
    await driver.write(
      [{ ...(await writeOf({ key: oldKey, target, events: [] }, "dead")), value: item!.value! } as never],
      call(),
    );
    const published = new Published();
    for (const instanceId of ["two", "three", "four"]) sidecar(driver, published.publish, { instanceId });
    await expect.poll(() => notesIn(driver)).toBe(0);
    expect(published.texts).toEqual(["a=1"]);
  });

  it("is refused with TOO_LARGE, and not written, when no event can carry a value", async () => {
    const driver = await openMemory();
    const { store } = sidecar(driver, new Published().publish);
    const refused = store.transact([set("small", "1"), set("large", "x".repeat(1001))], call());
    await expect(refused).rejects.toSatisfy((error) => reasonOf(error) === "TOO_LARGE");
    expect(await store.get("small", call())).toBeUndefined();
  });

  it("keeps its notes from applications, also from those without a prefix", async () => {
    const driver = await openMemory();
    const published = new Published();
    published.away = true;
    const { store } = sidecar(driver, published.publish, { keyPrefix: "none" });
    await store.transact([set("a", "1"), set("z", "2")], call());
    expect(await notesIn(driver)).toBe(1);
    const query = { prefix: "", after: undefined, limit: 10, keysOnly: false, maxBytes: 1e6 };
    expect((await store.list(query, call())).items.map(({ key }) => key)).toEqual(["a", "z"]);
    for await (const batch of store.watch({ kind: "prefix", prefix: "", resumeAfter: undefined }, call())) {
      expect(batch.changes.map(({ key }) => key).filter((key) => key.startsWith("||"))).toEqual([]);
      if (batch.snapshotComplete) break;
    }
  });
});

describe("the settings of an outbox", () => {
  it("are refused when only one of them is there", () => {
    expect(stateSettings.safeParse({ outboxPublishTopic: "t" }).success).toBe(false);
    expect(stateSettings.safeParse({ outboxPublishPubsub: "p" }).success).toBe(false);
    expect(stateSettings.safeParse({ outboxPublishPubsub: "p", outboxPublishTopic: "t" }).success).toBe(true);
  });
});
