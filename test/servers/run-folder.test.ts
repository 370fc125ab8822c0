/** Nothing is left of a run of tests, however it ends. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, it } from "vitest";
import { isRunning } from "./process-tree.ts";
import { describeWith } from "./require.ts";

describeWith("redis", "a run of tests", () => {
  it("takes its servers and its folder with it when it is killed", async () => {
    const redis = join(import.meta.dirname, "redis.ts");
    const script = `
      import { startRedis, sharedRedis } from ${JSON.stringify(redis)};
      const frozen = await startRedis();
      await frozen.freeze();
      await sharedRedis();
      console.log(frozen.folder);
      setInterval(() => {}, 1000);`;
    const { OUTRIDER_TEST_RUN: _, ...env } = process.env;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [output] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
    const folder = dirname(output.trim());
    const pids = readdirSync(join(folder, "pids")).map(Number);
    expect(pids.filter(isRunning)).toHaveLength(2);
    child.kill("SIGKILL");
    await expect.poll(() => pids.filter(isRunning)).toEqual([]);
    await expect.poll(() => existsSync(folder)).toBe(false);
  });
});
