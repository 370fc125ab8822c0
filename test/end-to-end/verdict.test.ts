/** That the crash test would notice. */
import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { acknowledgedLine, judge, readRecords, type Settled, settledFile, settledLine } from "./verdict.ts";

const groups = [{ name: "g", ordered: true }];
const acknowledged = (...sequences: readonly number[]) =>
  sequences.map((sequence) => ({ key: "k", sequence }));
/** Settlements of sequences; one that is written "3#2" is the second attempt. */
const settled = (...names: readonly string[]): Settled[] =>
  names.map((name) => {
    const [sequence, attempt = "1"] = name.split("#");
    return { group: "g", key: "k", sequence: Number(sequence), attempt: Number(attempt) };
  });

describe("the verdict of a crash test", () => {
  it("finds nothing wrong when all is settled in order, with duplicates that keep it", () => {
    const records = { acknowledged: acknowledged(1, 2, 3), settled: settled("1", "2", "2#2", "3") };
    expect(judge(records, groups)).toEqual({
      lost: [],
      disordered: [],
      overtaken: [],
      acknowledged: 3,
      duplicates: 1,
      unacknowledged: 0,
      highestAttempt: 2,
    });
  });

  it("names what was acknowledged and never settled by a group", () => {
    const records = { acknowledged: acknowledged(1, 2), settled: settled("1") };
    const two = [...groups, { name: "other", ordered: false }];
    expect(judge(records, two).lost).toEqual(["g k 2", "other k 1", "other k 2"]);
  });

  it("names what was settled before an earlier event of its key, if the group asked for order", () => {
    const records = { acknowledged: acknowledged(1, 2, 3), settled: settled("1", "3", "2") };
    expect(judge(records, groups).disordered).toEqual(["g k 2 (attempt 1) after 3"]);
    expect(judge(records, [{ name: "g", ordered: false }]).disordered).toEqual([]);
  });

  it("names what was delivered again after a later event of its key", () => {
    const records = { acknowledged: acknowledged(1, 2), settled: settled("1", "2", "1#2") };
    expect(judge(records, groups).overtaken).toEqual(["g k 1 (attempt 2) after 2"]);
  });

  it("tells the story of what was delivered again after a later one, where there are notes of it", () => {
    const noted = settled("1", "2", "1#2").map((one, index) => ({ ...one, note: `note-${index}` }));
    expect(judge({ acknowledged: acknowledged(1, 2), settled: noted }, groups).overtaken).toEqual([
      "g k 1 (attempt 2) after 2: 1#1 note-0, 2#1 note-1, 1#2 note-2",
    ]);
  });

  it("takes no offence at a slow subscriber's old delivery, nor at what was never acknowledged", () => {
    const records = { acknowledged: acknowledged(2, 3), settled: settled("2#2", "3", "2#1", "1") };
    expect(judge(records, groups)).toMatchObject({ disordered: [], overtaken: [], unacknowledged: 1 });
  });

  it("does not count a line whose writer was killed within it", async () => {
    const directory = await mkdtemp(join(tmpdir(), "outrider-test-"));
    const [one, two] = settled("1", "2");
    const half = settledLine({ ...one!, sequence: 77 }).slice(0, -4);
    await appendFile(join(directory, settledFile), settledLine(one!) + half + settledLine(two!));
    const lines = acknowledgedLine({ key: "k", sequence: 1 }) + acknowledgedLine({ key: "k", sequence: 2 });
    await appendFile(join(directory, "acknowledged-0-1.log"), lines.slice(0, -3));
    const records = await readRecords(directory);
    expect(records).toEqual({ acknowledged: acknowledged(1), settled: settled("1", "2") });
    await rm(directory, { recursive: true });
  });
});
