/** From nothing to ready, and what a sidecar takes that has nothing to do. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { median } from "../measure/numbers.ts";
import { cpuMicros, memoryMb } from "../measure/process-figures.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import { root } from "../servers/child.ts";
import { makeDirectory, type Store, startSidecar } from "../servers/sidecar.ts";

/** How long an idle sidecar is left alone before it is looked at, in milliseconds: when it has been idle for some seconds, it gives memory back. */
const settleMs = 40_000;

export const start: Scenario = {
  name: "start",
  about: "start to ready, and idle memory: bundled and from the sources",
  async *run(effort) {
    yield { what: "an empty Node process, to its end", value: emptyNodeMs(effort.rounds), unit: "ms" };
    const bundle = existsSync(join(root, "dist/outrider.js"));
    if (bundle) {
      const targets = { readyMs: 150, idleMb: 70 };
      yield* starts("bundled, no YAML", { store: "default", bundled: true, targets }, effort);
      yield* starts(
        "bundled, no YAML, items on SQLite",
        { store: "default", bundled: true, used: true },
        effort,
      );
      yield* starts("bundled, in memory by YAML", { store: "memory", bundled: true }, effort);
    } else {
      process.stderr.write("there is no bundle: npm run build makes it\n");
    }
    yield* starts("sources, no YAML", { store: "default", bundled: false }, effort);
  },
};

interface StartOptions {
  readonly store: Store;
  readonly bundled: boolean;
  /** True: there is a file of the embedded store, which is opened at the start. */
  readonly used?: boolean;
  readonly targets?: { readonly readyMs: number; readonly idleMb: number };
}

async function* starts(
  name: string,
  { store, bundled, used = false, targets }: StartOptions,
  { rounds, sliceMs }: Effort,
): AsyncGenerator<Figure> {
  const dataDirectory = await makeDirectory();
  const ready: number[] = [];
  const startCpu: number[] = [];
  let idleMb = 0;
  let idleCpuMs = 0;
  try {
    // One unrecorded: it fills the caches.
    for (let round = -1; round < rounds; round++) {
      const sidecar = await startSidecar({ store, dataDirectory, bundled });
      const cpu = cpuMicros(sidecar.pid) / 1000;
      if (round < 0 && used) await setItem(sidecar.httpPort);
      if (round >= 0) {
        ready.push(sidecar.readyAfterMs);
        startCpu.push(cpu);
      }
      if (round === rounds - 1) {
        await delay(settleMs);
        idleMb = memoryMb(sidecar.pid).now;
        const before = cpuMicros(sidecar.pid);
        await delay(sliceMs);
        idleCpuMs = (cpuMicros(sidecar.pid) - before) / sliceMs;
      }
      await sidecar.stop();
    }
  } finally {
    await rm(dataDirectory, { recursive: true, force: true });
  }
  const target = (atMost: number | undefined) => (atMost === undefined ? undefined : { atMost });
  yield {
    what: `${name}: start to ready`,
    value: median(ready),
    unit: "ms",
    target: target(targets?.readyMs),
  };
  yield { what: `${name}: CPU of the start`, value: median(startCpu), unit: "ms" };
  yield { what: `${name}: idle, resident`, value: idleMb, unit: "MB", target: target(targets?.idleMb) };
  yield { what: `${name}: idle, CPU a second`, value: idleCpuMs, unit: "ms" };
}

async function setItem(httpPort: number): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/outrider.state.v1.StateService/Set`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"key": "key", "value": "dmFsdWU="}',
  });
  if (!response.ok) throw new Error(`the item could not be set: ${await response.text()}`);
}

function emptyNodeMs(rounds: number): number {
  const times = Array.from({ length: rounds }, () => {
    const startedAt = performance.now();
    spawnSync(process.execPath, ["--eval", ""]);
    return performance.now() - startedAt;
  });
  return median(times);
}
