/** Loaded into a sidecar before anything else: its clock is off by as many milliseconds as a file says, which may change. */
import { readFileSync } from "node:fs";

/** For how long what the file says is taken for granted, in milliseconds. */
const readEveryMs = 20;

const Clock = Date;
const file = process.env["SHIFTED_CLOCK"] ?? "";
let shiftMs = 0;
let readAt = Number.NEGATIVE_INFINITY;

function now(): number {
  if (performance.now() - readAt > readEveryMs) {
    readAt = performance.now();
    shiftMs = Number(readFileSync(file, "utf8"));
  }
  return Clock.now() + shiftMs;
}

globalThis.Date = new Proxy(Clock, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as Date,
  apply: () => new Clock(now()).toString(),
  get: (target, name) => (name === "now" ? now : Reflect.get(target, name)),
});
