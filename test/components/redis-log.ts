/** A log whose lines a test can read. */
import { pino } from "pino";
import type { OpenContext } from "../../src/component.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";

/** Telemetry for a component, and what it has logged. */
export function readableTelemetry(): {
  readonly telemetry: OpenContext["telemetry"];
  readonly lines: string[];
} {
  const lines: string[] = [];
  const log = pino({ level: "debug" }, { write: (line: string) => void lines.push(line) });
  return { telemetry: { ...quietTelemetry(), log }, lines };
}
