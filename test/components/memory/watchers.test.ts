import { expect, it } from "vitest";
import type { StateDriver, WatchBatch } from "../../../src/blocks/state/driver.ts";
import { memoryState } from "../../../src/components/memory/state.ts";
import { openContext } from "../open-context.ts";

const open = (): Promise<StateDriver> => memoryState.configure({})(openContext());
const options = { contentType: "", metadata: {}, expiresAtMs: undefined, precondition: undefined };
const call = { signal: new AbortController().signal };
const everything = { kind: "prefix", prefix: "", resumeAfter: undefined } as const;

it("holds a bounded number of deletions for a watcher who does not read, and none of what is there", async () => {
  const driver = await open();
  const abort = new AbortController();
  const watch = driver.watch!(everything, { signal: abort.signal })[Symbol.asyncIterator]();
  await watch.next();
  const value = new Uint8Array(1);
  for (let i = 0; i < 30_000; i++) {
    await driver.write([{ kind: "set", key: `passing/${i}`, value, ...options }], call);
    await driver.write([{ kind: "delete", key: `passing/${i}`, precondition: undefined }], call);
  }
  await driver.write([{ kind: "set", key: "stays", value, ...options }], call);
  const told: string[] = [];
  while (!told.includes("stays")) {
    const batch: WatchBatch = (await watch.next()).value;
    told.push(...batch.changes.map(({ key }) => key));
  }
  expect(told.length).toBeLessThan(11_000);
  abort.abort();
  await driver.close();
});

it("ends every watch when the driver closes", async () => {
  const driver = await open();
  const watches = [everything, { kind: "key", key: "k", resumeAfter: undefined } as const].map((selector) =>
    driver.watch!(selector, call)[Symbol.asyncIterator](),
  );
  for (const watch of watches) await watch.next();
  const ends = watches.map((watch) => watch.next());
  await driver.close();
  expect((await Promise.all(ends)).map(({ done }) => done)).toEqual([true, true]);
});
