/** An application that publishes, and writes down what was acknowledged before it counts it. Run by crash-test.ts. */
import { openSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PublishStreamRequestSchema } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { Application, Outbox } from "./application.ts";
import { askedToEnd, pause, readTask, silentMs, withSidecars } from "./program.ts";
import { Random } from "./random.ts";
import { readPort } from "./sidecar-ports.ts";
import { acknowledgedLine, type EventName } from "./verdict.ts";

const keys = 12;
/** Events that were sent and not acknowledged, at most. */
const maxWaiting = 300;
/** Between two messages, in milliseconds: about 250 events a second, which an ordered group on a busy machine can handle. */
const paceMs = 40;
/** More than one life can send: sequences grow from life to life. */
const sequencesOfALife = 10_000_000;

const task = readTask();
const random = new Random(task.seed);
const end = askedToEnd();
const log = openSync(join(task.directory, `acknowledged-${task.index}-${task.life}.log`), "a");
let sequence = task.life * sequencesOfALife;

await withSidecars(task, end, async (sidecar) => {
  using app = new Application(readPort(task.directory, sidecar));
  app.leaveWhenSilent(silentMs);
  const outbox = new Outbox<MessageInitShape<typeof PublishStreamRequestSchema>>();
  const waiting: EventName[] = [];
  let over = false;
  const reading = acknowledge(app, outbox, waiting).finally(() => {
    over = true;
  });
  // Told below, when the loop has seen that it is over.
  reading.catch(() => {});
  while (!over && !end.aborted) {
    if (waiting.length < maxWaiting) {
      const events = Array.from({ length: random.between(1, 20) }, nextEvent);
      waiting.push(...events);
      outbox.send({ topic: task.topic, outgoing: events.map(outgoingOf) });
    }
    await pause(paceMs);
  }
  outbox.end();
  await reading;
});
process.exit(0);

/** What is not acknowledged when the stream ends is given up: nobody knows what became of it. */
async function acknowledge(
  app: Application,
  outbox: Outbox<MessageInitShape<typeof PublishStreamRequestSchema>>,
  waiting: EventName[],
): Promise<void> {
  let settledThrough = 0n;
  for await (const answer of app.pubsub.publishStream(outbox)) {
    const failed = new Set(answer.failures.map((failure) => failure.sequence));
    let lines = "";
    for (; settledThrough < answer.settledThrough; settledThrough++) {
      const event = waiting.shift()!;
      if (!failed.has(settledThrough + 1n)) lines += acknowledgedLine(event);
    }
    if (lines !== "") writeSync(log, lines);
  }
}

/** Most events have a key of this publisher; some have none. */
function nextEvent(): EventName {
  sequence += 1;
  const key = random.below(keys + 1);
  return { key: key === keys ? "-" : `p${task.index}k${key}`, sequence: sequence * 10 + task.index };
}

function outgoingOf(name: EventName) {
  const data = Buffer.alloc(random.below(4) === 0 ? random.below(20_000) : random.below(300), "x");
  return {
    key: name.key === "-" ? "" : name.key,
    event: { id: `${name.key} ${name.sequence}`, data },
  };
}
