import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, it } from "vitest";

/** Grows the young generation, and says how large it is, in bytes, each time it is asked. */
const program = `
  import { getHeapSpaceStatistics } from "node:v8";
  import { restWhenIdle } from "${new URL("../../src/cli/at-rest.ts", import.meta.url)}";
  let kept = [];
  for (let i = 0; i < 1e6; i++) kept.push({ i });
  kept = [];
  const young = () => getHeapSpaceStatistics().find((each) => each.space_name === "new_space").physical_space_size;
  process.stdin.on("data", () => console.log(young()));
  console.log(young());
  restWhenIdle();
`;
const [smallBytes, largeBytes] = [4 * 2 ** 20, 8 * 2 ** 20];

it("a process that has nothing to do any more gives back what being busy took", {
  timeout: 60_000,
}, async () => {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program]);
  try {
    const answer = async () => Number((await once(child.stdout, "data"))[0]);
    expect(await answer()).toBeGreaterThan(largeBytes);
    const ask = () => {
      child.stdin.write("?");
      return answer();
    };
    await expect.poll(ask, { timeout: 50_000, interval: 1000 }).toBeLessThan(smallBytes);
  } finally {
    child.kill();
  }
});
