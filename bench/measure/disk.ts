/** What the disk itself takes to have something durably. */
import { closeSync, fdatasyncSync, openSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { percentile } from "./numbers.ts";

/** The median time to append 4 KiB to a file and wait for the disk, in microseconds. */
export function diskWriteMicros(directory: string, writes = 200): number {
  const path = join(directory, "disk-write");
  const file = openSync(path, "w");
  const page = Buffer.alloc(4096, 1);
  try {
    const times = Array.from({ length: writes }, () => {
      const startedAt = performance.now();
      writeSync(file, page);
      fdatasyncSync(file);
      return (performance.now() - startedAt) * 1000;
    });
    return percentile(times, 0.5);
  } finally {
    closeSync(file);
    unlinkSync(path);
  }
}
