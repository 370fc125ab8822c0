import type { OpenContext } from "../../src/component.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";

/** What a component is opened with in a test, where the test does not say otherwise. */
export function openContext(given: Partial<OpenContext> = {}): OpenContext {
  return {
    name: "component",
    version: "v1",
    appId: "test",
    instanceId: "test",
    dataDirectory: "/nowhere",
    telemetry: quietTelemetry(),
    signal: AbortSignal.timeout(30_000),
    ...given,
  };
}
