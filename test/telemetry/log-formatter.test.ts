import { afterEach, describe, expect, it, vi } from "vitest";
import { createLog } from "../../src/telemetry/log.ts";

/** Whether the file of the formatter can be read, as when the package is replaced or there are too many open files. */
const formatter = vi.hoisted(() => ({ isThere: true }));

vi.mock("pino-pretty", async (original) => {
  const { prettyFactory } = await original<typeof import("pino-pretty")>();
  return {
    default: {
      get prettyFactory() {
        if (!formatter.isThere) throw new Error("EMFILE: too many open files");
        return prettyFactory;
      },
    },
  };
});

describe("the log's formatter, which is loaded with the first line", () => {
  afterEach(() => {
    formatter.isThere = true;
  });

  it("is done without while it cannot be loaded: a line never fails who writes it", () => {
    const lines: string[] = [];
    const log = createLog({
      level: "info",
      format: "pretty",
      destination: { write: (line) => lines.push(line) },
      secrets: () => new Set(),
      base: { app_id: "orders", instance: "i1" },
    });
    formatter.isThere = false;
    log.info("as JSON");
    expect(JSON.parse(lines[0]!)).toMatchObject({ msg: "as JSON" });
    formatter.isThere = true;
    log.info("for people");
    expect(lines[1]).toMatch(/INFO: for people\n$/);
  });
});
