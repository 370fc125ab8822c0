/**
 * Runs scenarios and prints what they measure, as the rows of a Markdown table.
 *
 *   node bench/run.ts [scenario...] [--seconds N] [--rounds N] [--list]
 */
import { parseArgs } from "node:util";
import { jetStream } from "./brokers/jetstream.ts";
import { kafka } from "./brokers/kafka.ts";
import { postgresql } from "./brokers/postgresql.ts";
import { redis } from "./brokers/redis.ts";
import { daprDeliveryMemory, daprDeliveryRedis } from "./dapr/delivery.ts";
import { daprUnary } from "./dapr/unary.ts";
import { type Figure, meets, type Scenario } from "./scenario.ts";
import { acrossSqlite } from "./scenarios/across.ts";
import { idleStreams } from "./scenarios/idle-streams.ts";
import { publishSqlite } from "./scenarios/publish-sqlite.ts";
import { start } from "./scenarios/start.ts";
import { streamsMemory } from "./scenarios/streams.ts";
import { publishMemory, stateMemory, stateSqlite } from "./scenarios/unary.ts";

const scenarios: readonly Scenario[] = [
  stateMemory,
  stateSqlite,
  publishMemory,
  publishSqlite,
  streamsMemory,
  daprUnary,
  daprDeliveryMemory,
  daprDeliveryRedis,
  acrossSqlite,
  start,
  idleStreams,
  redis,
  kafka,
  jetStream,
  postgresql,
];

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string", default: "2" },
    rounds: { type: "string", default: "5" },
    list: { type: "boolean", default: false },
  },
});
const unknown = positionals.find((name) => !scenarios.some((scenario) => scenario.name === name));
const effort = { sliceMs: Number(values.seconds) * 1000, rounds: Number(values.rounds) };
if (values.list || unknown !== undefined || !(effort.sliceMs > 0 && effort.rounds >= 1)) {
  if (unknown !== undefined) process.stderr.write(`there is no scenario "${unknown}"\n`);
  for (const { name, about } of scenarios) process.stdout.write(`${name.padEnd(20)} ${about}\n`);
  process.exit(values.list ? 0 : 2);
}

// So that what was started ends too.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

process.stdout.write("| scenario | figure | measured | bare echo | target |\n|---|---|---|---|---|\n");
for (const scenario of scenarios) {
  if (positionals.length > 0 && !positionals.includes(scenario.name)) continue;
  for await (const figure of scenario.run(effort)) process.stdout.write(rowOf(scenario.name, figure));
}

function rowOf(scenario: string, figure: Figure): string {
  const { what, value, unit, yardstick } = figure;
  const echo = yardstick === undefined ? "" : numberText(yardstick);
  return `| ${scenario} | ${what} | ${numberText(value)} ${unit} | ${echo} | ${targetText(figure)} |\n`;
}

function targetText(figure: Figure): string {
  const { target } = figure;
  if (target === undefined) return "";
  const text =
    "atMost" in target ? `at most ${numberText(target.atMost)}` : `over ${numberText(target.over)}`;
  return `${text}: ${meets(figure) ? "met" : "**missed**"}`;
}

function numberText(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en-US", { maximumFractionDigits: digits });
}
