/** `--wait`: waits for the sidecar that was started with the same flags beside it. */
import { setTimeout as delay } from "node:timers/promises";
import type { DaprdFlags } from "./flags.ts";

/** As daprd has it, in milliseconds. */
const withinMs = 60_000;
const lookMs = 100;

/** Whether it got ready to call others in time. */
export async function waitUntilOutboundReady(flags: DaprdFlags, signal: AbortSignal): Promise<boolean> {
  const url = `http://127.0.0.1:${flags.httpPort}/v1.0/healthz/outbound`;
  const deadline = Date.now() + withinMs;
  while (Date.now() < deadline && !signal.aborted) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(1000) }).catch(() => undefined);
    if (answer?.ok) return true;
    await delay(lookMs);
  }
  return false;
}
