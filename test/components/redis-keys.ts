/** A store as its driver sees it whose keys have something before them that the tests do not put there. */
import type { Change, Item, StateDriver, WatchBatch, WatchSelector } from "../../src/blocks/state/driver.ts";

/** The same driver on keys that begin with `prefix`: in one slot of a cluster, or where a user may go. */
export function withPrefix(driver: StateDriver, prefix: string): StateDriver {
  const own = (item: Item): Item => ({ ...item, key: item.key.slice(prefix.length) });
  const { list, watch, read, writeChunks } = driver;
  const rethrow = (error: unknown): never => {
    if (error instanceof Error && "key" in error)
      Object.assign(error, { key: String(error.key).slice(prefix.length) });
    throw error;
  };
  async function* watched(batches: AsyncIterable<WatchBatch>): AsyncIterable<WatchBatch> {
    for await (const batch of batches) {
      const changes = batch.changes.map(
        ({ key, item }): Change => ({ key: key.slice(prefix.length), item: item && own(item) }),
      );
      yield { ...batch, changes };
    }
  }
  return {
    supports: driver.supports,
    classify: (error) => driver.classify(error),
    ping: (call) => driver.ping(call),
    close: () => driver.close(),
    get: async (keys, call) =>
      (
        await driver.get(
          keys.map((key) => prefix + key),
          call,
        )
      ).map((item) => item && own(item)),
    write: (writes, call) =>
      driver
        .write(
          writes.map((write) => ({ ...write, key: prefix + write.key })),
          call,
        )
        .catch(rethrow),
    ...(list && {
      list: async (range, call) => {
        const after = range.after === undefined ? undefined : prefix + range.after;
        const page = await driver.list!({ ...range, prefix: prefix + range.prefix, after }, call);
        return { items: page.items.map(own), more: page.more };
      },
    }),
    ...(watch && {
      watch: (selector, call) => {
        const stored: WatchSelector =
          selector.kind === "key"
            ? { ...selector, key: prefix + selector.key }
            : { ...selector, prefix: prefix + selector.prefix };
        return watched(driver.watch!(stored, call));
      },
    }),
    ...(read && {
      read: async (key, call) => {
        const found = await driver.read!(prefix + key, call);
        return found && { item: own(found.item), chunks: found.chunks };
      },
    }),
    ...(writeChunks && {
      writeChunks: (write, chunks, call) =>
        driver.writeChunks!({ ...write, key: prefix + write.key }, chunks, call).catch(rethrow),
    }),
  };
}
