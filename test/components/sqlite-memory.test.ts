/** What the thread of the embedded store keeps in memory. */
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import type { WriteRow } from "../../src/components/sqlite/messages.ts";
import { Tables } from "../../src/components/sqlite/thread/tables.ts";
import { Directory } from "./sqlite-directory.ts";

it("is the same after 200,000 writes and deletions of the same items", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const directory = await Directory.make();
  const path = join(directory.path, "outrider.db");
  const tables = new Tables({ path, instanceId: "test", lockLimitMs: 10_000, watchFiles: false });
  try {
    const store = tables.items.attach("state");
    const value = Buffer.from("value");
    const writeAll = (times: number) =>
      tables.write(false, () => {
        for (let n = 0; n < times; n += 1) {
          const write: WriteRow = {
            ...{ key: `key-${n % 100}`, set: n % 10 > 0, precondition: undefined },
            ...{ contentType: "", metadata: undefined, expiresAtMs: undefined },
          };
          tables.items.write(store, [write], [value]);
        }
      });
    writeAll(1000);
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let round = 0; round < 20; round += 1) writeAll(10_000);
    collect();
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(2 * 1024 * 1024);
  } finally {
    tables.file.close();
    await directory.remove();
  }
});
