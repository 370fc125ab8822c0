/**
 * A sidecar under load for a time: is its memory flat, and is nothing lost?
 *
 *   node bench/soak.ts [--minutes N] [--rate N] [--store memory|sqlite] [--bundled]
 *
 * Publishers keep a rate. Subscribers of two groups take the events on streams that end again and again: closed,
 * cancelled, or with their connection, a tenth of the frames unsettled. At the end every event that was acknowledged
 * must have reached both groups. Exit code 1: something was lost, or the memory grew (which a run of less than a minute
 * does not tell).
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { median } from "./measure/numbers.ts";
import { cpuMicros, memoryMb } from "./measure/process-figures.ts";
import { startSidecar } from "./servers/sidecar.ts";
import { Ledger } from "./soak/ledger.ts";
import { publish } from "./soak/publisher.ts";
import { type Endings, subscribe } from "./soak/subscriber.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "2" },
    rate: { type: "string", default: "4000" },
    store: { type: "string", default: "memory" },
    bundled: { type: "boolean", default: false },
  },
});
const groups = ["billing", "shipping"];
const topic = "soak";
const publishers = 4;
const subscribersOfGroup = 4;
/** A subscribe stream lives between this and three times this, in milliseconds. */
const streamMs = 1000;
const sampleMs = 1000;
/** When the memory is looked at first, and how many samples the median of the beginning and of the end has. */
const warmUpMs = 30_000;
const samplesCompared = 15;
/** What the memory may have grown by in between: the heap's own breathing, in MB. */
const maxGrowthMb = 25;
const drainWithinMs = 60_000;

const durationMs = Number(values.minutes) * 60_000;
const { store } = values;
if (!(durationMs > 0) || !(Number(values.rate) > 0) || (store !== "memory" && store !== "sqlite")) {
  process.stderr.write("node bench/soak.ts [--minutes N] [--rate N] [--store memory|sqlite] [--bundled]\n");
  process.exit(2);
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

const { bundled } = values;
const sidecar = await startSidecar({ store, bundled });
const ledger = new Ledger(groups);
const endings: Endings = { closed: 0, cancelled: 0, disconnected: 0 };
const publishing = new AbortController();
const subscribing = new AbortController();
const samples: number[] = [];
const work = {
  publishers: Array.from({ length: publishers }, (_, publisher) =>
    publish(
      { port: sidecar.grpcPort, topic, publisher, perSecond: Number(values.rate) / publishers },
      ledger,
      publishing.signal,
    ),
  ),
  subscribers: groups.flatMap((group) =>
    Array.from({ length: subscribersOfGroup }, () =>
      subscribe({ port: sidecar.grpcPort, topic, group, streamMs }, ledger, endings, subscribing.signal),
    ),
  ),
};
const failed = Promise.all([...work.publishers, ...work.subscribers]).then(() => {});
await Promise.race([failed, sampled()]);
publishing.abort();
await Promise.race([failed, Promise.all(work.publishers)]);
for (const end = performance.now() + drainWithinMs; ledger.missing > 0 && performance.now() < end; ) {
  await Promise.race([failed, delay(200)]);
}
subscribing.abort();
await failed;
report();
await sidecar.stop();

async function sampled(): Promise<void> {
  for (const end = performance.now() + durationMs; performance.now() < end; ) {
    await delay(sampleMs);
    samples.push(memoryMb(sidecar.pid).now);
    if (samples.length % 10 === 0) {
      const { published, delivered, duplicates } = ledger;
      const counts = `${published} published, ${delivered} delivered, ${duplicates} again`;
      process.stderr.write(`${samples.length} s: ${samples.at(-1)!.toFixed(0)} MB, ${counts}\n`);
    }
  }
}

function report(): void {
  const { published, delivered, duplicates, missing } = ledger;
  const first = warmUpMs / sampleMs;
  const early = median(samples.slice(first, first + samplesCompared));
  const late = median(samples.slice(-samplesCompared));
  const judged = samples.length >= first + 2 * samplesCompared;
  const grew = judged && late - early > maxGrowthMb;
  const { peak } = memoryMb(sidecar.pid);
  const cpu = cpuMicros(sidecar.pid) / (published + delivered);
  const lines = [
    `${store}, ${bundled ? "bundled" : "sources"}, ${values.minutes} min: ${published} events published, ${delivered} deliveries to ${groups.length} groups`,
    `streams ended: ${Object.entries(endings)
      .map(([way, count]) => `${count} ${way}`)
      .join(", ")}`,
    `delivered again: ${duplicates}`,
    `lost: ${missing}`,
    `memory: ${judged ? `${early.toFixed(0)} MB after ${first} s, ` : ""}${late.toFixed(0)} MB at the end, ${peak.toFixed(0)} MB at its peak${grew ? ": IT GREW" : ""}`,
    `CPU: ${cpu.toFixed(1)} us for each publish and each delivery`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
  if (missing > 0 || grew) process.exitCode = 1;
}
