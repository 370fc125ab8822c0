import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { pause } from "../src/pause.ts";

const longMs = 600_000;

describe("a pause", () => {
  it("takes its time when nobody cuts it short", async () => {
    const startedAt = performance.now();
    await pause(20, new AbortController().signal);
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(18);
  });

  it("ends when its signal aborts, and does not reject", async () => {
    const over = new AbortController();
    const paused = pause(longMs, over.signal);
    over.abort(new Error("enough"));
    await expect(paused).resolves.toBeUndefined();
  });

  it("does not begin when its signal has aborted before", async () => {
    await expect(pause(longMs, AbortSignal.abort())).resolves.toBeUndefined();
  });

  it("keeps the process only when it is told to", () => {
    const module = resolve(import.meta.dirname, "../src/pause.ts");
    const run = (options: string) =>
      spawnSync(process.execPath, [
        "--input-type=module",
        "-e",
        `const { pause } = await import(${JSON.stringify(module)});
         process.on("exit", () => console.log(waited ? "waited" : "ended"));
         let waited = false;
         void pause(200, new AbortController().signal, ${options}).then(() => { waited = true; });`,
      ]).stdout.toString();
    expect(run("{}")).toBe("waited\n");
    expect(run("{ ref: false }")).toBe("ended\n");
  });
});
