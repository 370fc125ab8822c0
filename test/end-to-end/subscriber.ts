/** An application that handles events, and writes down each before it settles it. Run by crash-test.ts. */
import { openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { type Delivery, Outcome } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { Application, type Stream } from "./application.ts";
import { askedToEnd, readTask, silentMs, withSidecars } from "./program.ts";
import { Random } from "./random.ts";
import { readPort } from "./sidecar-ports.ts";
import { settledFile, settledLine } from "./verdict.ts";

/** The longest that handling a batch takes, in milliseconds. */
const maxHandlingMs = 10;
/** One batch in so many takes far longer, so that something is held whenever somebody is killed. */
const oneSlowIn = 20;
const slowMs = 200;
/** One first attempt in so many is to be repeated. */
const oneRetryIn = 50;

const task = readTask();
const random = new Random(task.seed);
const end = askedToEnd();
const log = openSync(join(task.directory, settledFile), "a");

await withSidecars(task, end, async (sidecar) => {
  using app = new Application(readPort(task.directory, sidecar));
  app.leaveWhenSilent(silentMs);
  const opens = task.groups.map(({ name, ordered }) => ({
    topic: task.topic,
    group: name,
    ordered,
    maxInFlight: 64,
    maxBatch: 16,
    retry: { initialDelay: { nanos: 5e6 }, maxDelay: { nanos: 50e6 } },
  }));
  using stream = app.subscribe(opens, (deliveries) => {
    const takesMs = random.below(oneSlowIn) === 0 ? slowMs : random.below(maxHandlingMs);
    const receivedAtMs = Date.now();
    setTimeout(() => handle(stream, deliveries, sidecar, receivedAtMs), takesMs);
  });
  end.addEventListener("abort", () => stream.halfClose(), { once: true });
  // A subscription that the sidecar refuses does not end the stream.
  const refused = stream.heard("closed").then(({ value }) => {
    if (value.code !== 0)
      throw new Error(`subscription ${value.subscription}: ${value.reason} ${value.message}`);
  });
  await Promise.race([refused, stream.ended]).catch((error: unknown) => {
    if (!(error instanceof Error && error.message.startsWith("the stream ended"))) throw error;
  });
  const error = await stream.ended;
  if (error) throw error;
});
process.exit(0);

function handle(
  stream: Stream,
  deliveries: readonly Delivery[],
  sidecar: number,
  receivedAtMs: number,
): void {
  const who = `subscriber-${task.index}.${task.life}@sidecar-${sidecar}`;
  const when = `${timeOf(receivedAtMs)}-${timeOf(Date.now())}`;
  const repeated: Delivery[] = [];
  const done: Delivery[] = [];
  let lines = "";
  for (const delivery of deliveries) {
    if (delivery.attempt === 1 && random.below(oneRetryIn) === 0) {
      repeated.push(delivery);
      continue;
    }
    const [key, sequence] = nameOf(delivery).split(" ");
    const group = task.groups[delivery.subscription - 1]!.name;
    const { attempt, id } = delivery;
    const note = `${who}:delivery-${id}:${when}`;
    lines += settledLine({ group, key: key!, sequence: Number(sequence), attempt, note });
    done.push(delivery);
  }
  if (lines !== "") writeSync(log, lines);
  stream.settle(done);
  stream.settle(repeated, Outcome.RETRY);
}

/** What publishers write into an event's id; an outbox gives ids of its own, and the data are what was stored. */
function nameOf({ event }: Delivery): string {
  const { id, type, data } = event!;
  return type === "dev.outrider.state.set" ? Buffer.from(data).toString() : id;
}

function timeOf(ms: number): string {
  return new Date(ms).toISOString().slice(11, -1);
}
