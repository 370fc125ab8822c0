import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { announceSidecar, runningSidecars } from "../src/sidecars.ts";

describe("the sidecars of a data directory", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "outrider-sidecars-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  const sidecar = (instanceId: string, startedAtMs: number, pid = process.pid) => ({
    instanceId,
    appId: "orders",
    pid,
    startedAtMs,
    grpcAddress: "127.0.0.1",
    grpcPort: 50001,
    httpPort: 3500,
  });

  it("are found while they run, the youngest first", async () => {
    await announceSidecar(directory, sidecar("a", 1));
    const withdraw = await announceSidecar(directory, sidecar("b", 2));
    expect((await runningSidecars(directory)).map(({ instanceId }) => instanceId)).toEqual(["b", "a"]);
    await withdraw();
    await withdraw();
    expect(await runningSidecars(directory)).toEqual([{ ...sidecar("a", 1), host: hostname() }]);
  });

  it("are none where nothing ever ran", async () => {
    expect(await runningSidecars(join(directory, "missing"))).toEqual([]);
  });

  it("are forgotten when they were killed", async () => {
    const { pid } = spawnSync(process.execPath, ["--version"]);
    await announceSidecar(directory, sidecar("killed", 1, pid));
    expect(await runningSidecars(directory)).toEqual([]);
    expect(await readdir(join(directory, "sidecars"))).toEqual([]);
  });

  it("are read also beside files that make no sense", async () => {
    await announceSidecar(directory, sidecar("a", 1));
    await writeFile(join(directory, "sidecars", "broken.json"), "{");
    expect(await runningSidecars(directory)).toHaveLength(1);
  });
});
