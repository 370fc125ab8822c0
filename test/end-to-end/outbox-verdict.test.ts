/** That the crash test would notice what an outbox does wrong. */
import { describe, expect, it } from "vitest";
import { doomedPrefix, itemKey, judgeOutbox, type Store } from "./outbox-verdict.ts";

const groups = [{ name: "g" }, { name: "h" }];

/** A store with these keys, two of them on a page. */
function storeWith(...keys: readonly string[]): Store {
  return {
    state: {
      async list({ prefix, pageToken }) {
        const under = keys.filter((key) => key.startsWith(prefix));
        const from = Number(pageToken);
        const items = under.slice(from, from + 2).map((key) => ({ key }));
        return { items, nextPageToken: from + 2 < under.length ? String(from + 2) : "" };
      },
    },
  };
}

const item = (sequence: number) => itemKey({ key: "-", sequence });
const settled = (group: string, key: string, ...sequences: readonly number[]) =>
  sequences.map((sequence) => ({ group, key, sequence, attempt: 1 }));

describe("the verdict on an outbox", () => {
  it("finds nothing wrong when each group had what the store has, and is not about other events", async () => {
    const all = [
      ...settled("g", "-", 17, 18, 27),
      ...settled("h", "-", 27, 18, 17),
      ...settled("g", "k", 11),
    ];
    const store = storeWith(item(17), item(18), item(27));
    expect(await judgeOutbox(store, { acknowledged: [], settled: all }, groups)).toEqual({
      committed: 3,
      phantoms: [],
      unpublished: [],
    });
  });

  it("finds what was stored and did not come to a group", async () => {
    const all = [...settled("g", "-", 17, 18), ...settled("h", "-", 17)];
    const { unpublished } = await judgeOutbox(
      storeWith(item(17), item(18)),
      { acknowledged: [], settled: all },
      groups,
    );
    expect(unpublished).toEqual(["h 18"]);
  });

  it("finds what was published though its transaction did not commit, and what a refused one left", async () => {
    const all = [...settled("g", "-", 17), ...settled("g", "doomed", 28)];
    const store = storeWith(`${doomedPrefix}27`);
    const { phantoms } = await judgeOutbox(store, { acknowledged: [], settled: all }, groups);
    expect(phantoms).toEqual(["doomed 27 is stored", "g - 17", "g doomed 28"]);
  });
});
