/** Any file is either a configuration or a ConfigError: nothing else is thrown, and nothing takes for ever. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { check, describe as described } from "../../src/config/check.ts";
import { ConfigError, formatRemark } from "../../src/config/remarks.ts";
import { build, componentYaml, directory } from "./fixture.ts";

/** How long to go on, in milliseconds, and how long one file may take; the second is generous for busy machines. */
const budgetMs = Number(process.env["FUZZ_MS"] ?? 2000);
const longestMs = 2000;

const seeds = [
  componentYaml(
    "orders",
    "state.redis",
    "- name: redisHost\n  value: {a: [1, 2.5, yes]}\n- name: redisPassword\n  secretKeyRef: {name: p, key: p}\n- name: redisDB\n  envRef: DB",
    "  version: v1\n  ignoreErrors: false\n  initTimeout: 5s\nauth: {secretStore: vault}\nscopes: &scopes [shop]\n",
  ),
  componentYaml("vault", "secretstores.local.env", "- name: prefix\n  value: '{appID}_'"),
  `apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: s, namespace: n, labels: {a: b}}
spec: {pubsubname: pubsub, topic: t, routes: {rules: [{match: a, path: /a}], default: /b}, metadata: {x: 1}}`,
  `apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: c}
spec:
  tracing: &t {samplingRate: "$RATE", otel: {endpointAddress: a, headers: [{name: h, value: v}]}}
  metrics: {<<: *t, enabled: true}
  accessControl: {defaultAction: allow, policies: [{appId: a, operations: [{name: b, action: allow}]}]}
  httpPipeline: {handlers: [{name: a, type: b, selector: {fields: [{field: a, value: b}]}}]}`,
  `apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: r}
spec: {policies: {timeouts: {a: 5s}, retries: {b: {policy: constant}}}, targets: {apps: {c: {timeout: a}}}}`,
  `apiVersion: dapr.io/v1alpha1
kind: MCPServer
metadata: {name: m}
spec: {endpoint: {sse: {url: a, headers: [{name: a, envRef: b}]}}}`,
];

const pieces = [
  ..."[]{}:,-?&*!|>'\"%@`#\n\t $~<\\\u0000\uFEFF\uD800",
  "---\n",
  "...\n",
  "&a ",
  "*a ",
  "*scopes",
  "<<: ",
  "!!binary ",
  "!!set ",
  "!!omap ",
  "%YAML 1.2\n---\n",
  "null",
  "1e999",
  "-0",
  ".nan",
  "__proto__: {a: b}\n",
  "constructor: x\n",
  "hasOwnProperty: 1\n",
  "[".repeat(200),
  "- ".repeat(200),
  "a: ".repeat(50),
  "x".repeat(5000),
  "  ",
  "kind: Component\n",
  "apiVersion: dapr.io/v1alpha1\n",
];

/** mulberry32: small, and the same everywhere. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function mutated(random: (below: number) => number): string {
  let text = Array.from({ length: 1 + random(3) }, () => seeds[random(seeds.length)]).join("\n---\n");
  for (let count = random(6); count > 0; count--) {
    const at = random(text.length + 1);
    const other = random(text.length + 1);
    const [from, to] = [Math.min(at, other), Math.min(Math.max(at, other), Math.min(at, other) + 80)];
    const lines = text.split("\n");
    const line = random(lines.length);
    text = [
      () => text.slice(0, at) + pieces[random(pieces.length)] + text.slice(at),
      () => text.slice(0, from) + text.slice(to),
      () => text.slice(0, at) + text.slice(from, to) + text.slice(at),
      () => text.slice(0, at) + String.fromCharCode(random(300)) + text.slice(at + 1),
      () => lines.toSpliced(line, 1).join("\n"),
      () => lines.toSpliced(line, 0, lines[random(lines.length)]!).join("\n"),
      () => lines.with(line, `${" ".repeat(random(6))}${lines[line]}`).join("\n"),
    ][random(7)]!();
  }
  return text;
}

it("a mutated file is loaded or refused, and neither fails nor hangs", {
  timeout: budgetMs + 30_000,
}, async () => {
  const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
  process.stdout.write(`fuzzing the configuration with FUZZ_SEED=${seed}\n`);
  const random = generator(seed);
  const path = await directory({});
  const file = join(path, "a.yaml");
  const options = { environment: { app_p: "hunter2", DB: "7", RATE: "1" }, ...build };
  const counts = { loaded: 0, refused: 0 };
  for (const end = performance.now() + budgetMs; performance.now() < end; ) {
    const text = mutated(random);
    await writeFile(file, text);
    const start = performance.now();
    try {
      const configuration = await check([file], options);
      described(configuration);
      counts.loaded++;
    } catch (error) {
      const cause = `seed ${seed}, after ${counts.loaded + counts.refused} files:\n${text}`;
      if (!(error instanceof ConfigError)) throw new Error(cause, { cause: error });
      const lines = error.mistakes.map(formatRemark);
      expect(lines.length, cause).toBeGreaterThan(0);
      for (const { file: named, message, line } of error.mistakes) {
        expect(named, cause).toBe(file);
        expect(message, cause).not.toBe("");
        expect(line, cause).toBeGreaterThanOrEqual(0);
        expect(line, cause).toBeLessThanOrEqual(text.split("\n").length);
      }
      counts.refused++;
    }
    expect(performance.now() - start, `seed ${seed}:\n${text}`).toBeLessThan(longestMs);
  }
  process.stdout.write(`${counts.loaded} files loaded, ${counts.refused} refused\n`);
  // Both happen, or the mutations are too mild or too wild to find anything.
  expect(counts.loaded).toBeGreaterThan(0);
  expect(counts.refused).toBeGreaterThan(0);
});
