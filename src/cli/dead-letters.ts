/** `outrider deadletter list` and `redrive`. */
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Delivery } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { callFailure, connectSidecar, type SidecarClient } from "./client.ts";
import { EventStream, type OpenRequest } from "./event-stream.ts";
import { deliveryJson } from "./events.ts";
import type { SidecarOptions } from "./options.ts";
import { lineOf, safe } from "./payload.ts";
import { CommandFailure, note, paint, print, printJson, type Terminal } from "./terminal.ts";

/** Flags of both parts. */
export interface DeadLetterOptions extends SidecarOptions {
  readonly component?: string;
  readonly max?: number;
  readonly json?: boolean;
}

/** The group that takes dead letters out of their topics. */
const redriveGroup = "outrider-redrive";
/** What the engine adds to an event that is given up. */
const deadLetterExtensions = ["reason", "time", "attempts", "topic", "group", "detail"].map(
  (name) => `deadletter${name}`,
);
/** When nothing has come for so long, nothing is left, in milliseconds. */
const quietMs = 1000;
/** How long leaving in peace may take, in milliseconds. */
const leaveWithinMs = 5000;
/** As many as a stream can hold. */
const mostListed = 65_536;
/** Events held at once, and published together, where `--max` does not ask for less. */
const maxInFlight = 100;

/**
 * Prints what is in a dead-letter topic. A group of its own reads it and is
 * forgotten afterwards. Nothing is settled: what every group has settled is removed.
 */
export async function listDeadLetters(
  terminal: Terminal,
  topic: string,
  options: DeadLetterOptions,
): Promise<void> {
  const { pubsub, address } = await connectSidecar(terminal, options);
  const start = { at: { case: "earliest" as const, value: true } };
  const open = { broadcast: true, start, maxInFlight: Math.min(options.max ?? mostListed, mostListed) };
  let listed = 0;
  await drainTopic(
    terminal,
    { pubsub, address },
    topic,
    { ...options, open, settles: false },
    async (deliveries) => {
      for (const delivery of deliveries) {
        if (options.json) await printJson(terminal, ...deliveryJson(delivery));
        else await print(terminal, `${deadLetterLine(delivery, terminal.colorOut)}\n`);
      }
      listed += deliveries.length;
    },
  );
  if (listed >= mostListed) note(terminal, `outrider: there may be more than these ${listed}`);
}

/** Sends dead letters back, and tells how many. */
export async function redriveDeadLetters(
  terminal: Terminal,
  topic: string,
  options: DeadLetterOptions,
): Promise<void> {
  const { pubsub, address } = await connectSidecar(terminal, options);
  const start = { at: { case: "earliest" as const, value: true } };
  // One at a time where the number is limited, so that what is not wanted is not delivered.
  const open = { group: redriveGroup, start, maxInFlight: options.max === undefined ? maxInFlight : 1 };
  const counts = { redriven: 0, skipped: 0, failed: 0 };

  const take = async (deliveries: readonly Delivery[], stream: EventStream) => {
    for (const [origin, letters] of byOrigin(deliveries)) {
      if (origin === "") {
        // Somebody published it here; nobody gave it up.
        counts.skipped += letters.length;
        stream.settle(letters, "ack");
        continue;
      }
      const failures = await redrive(pubsub, origin, letters, options.component ?? "");
      for (const message of failures.values()) note(terminal, `outrider: ${origin}: ${message}`);
      const failed = letters.filter((_, index) => failures.has(index));
      const redriven = letters.filter((_, index) => !failures.has(index));
      counts.failed += failed.length;
      counts.redriven += redriven.length;
      if (redriven.length > 0) stream.settle(redriven, "ack");
      if (failed.length > 0) stream.settle(failed, "retry", 0);
    }
    if (counts.failed > 0) stream.leave();
  };

  try {
    await drainTopic(terminal, { pubsub, address }, topic, { ...options, open, settles: true }, take);
  } finally {
    const { redriven, skipped, failed } = counts;
    if (options.json) await printJson(terminal, { topic, ...counts });
    else await print(terminal, `${redriven} sent back, ${skipped} were no dead letters, ${failed} failed\n`);
  }
  if (counts.failed > 0) throw new CommandFailure(`${counts.failed} events stay in ${topic}`);
}

/**
 * Has `take` see, and with `settles` settle, what is in a topic, at most `max`. Returns when nothing
 * more comes, or what comes is newer than this call: what is given up again
 * meanwhile is not taken again, or it would go round for ever.
 */
async function drainTopic(
  terminal: Terminal,
  { pubsub, address }: Pick<SidecarClient, "pubsub" | "address">,
  topic: string,
  options: DeadLetterOptions & { readonly open: OpenRequest; readonly settles: boolean },
  take: (deliveries: readonly Delivery[], stream: EventStream) => Promise<void>,
): Promise<void> {
  const max = options.max ?? Number.POSITIVE_INFINITY;
  const abandon = new AbortController();
  let leaving: NodeJS.Timeout | undefined;
  let quiet: NodeJS.Timeout | undefined;
  const open = { ...options.open, topic, component: options.component ?? "" };
  const stream = new EventStream(pubsub, [open], { opened: () => waitForQuiet() });
  const leave = () => {
    // Who settles nothing has nothing to wait for.
    if (!options.settles) return abandon.abort();
    leaving ??= setTimeout(() => abandon.abort(), leaveWithinMs);
    stream.leave();
  };
  function waitForQuiet() {
    clearTimeout(quiet);
    quiet = setTimeout(leave, quietMs);
  }
  terminal.interrupted.addEventListener("abort", leave, { once: true });
  const startedAtMs = Date.now();
  let taken = 0;
  try {
    for await (const deliveries of stream.deliveries(abandon.signal)) {
      clearTimeout(quiet);
      const old = deliveries.filter(
        ({ publishedAt }) => !publishedAt || timestampMs(publishedAt) <= startedAtMs,
      );
      const wanted = old.slice(0, max - taken);
      taken += wanted.length;
      // Told before the last is settled, so that no other follows it.
      if (taken >= max || old.length < deliveries.length) leave();
      const others = deliveries.filter((delivery) => !wanted.includes(delivery));
      if (others.length > 0 && options.settles) stream.settle(others, "retry", 0);
      if (wanted.length > 0) await take(wanted, stream);
      waitForQuiet();
    }
  } catch (error) {
    if (!abandon.signal.aborted) throw callFailure(error, address);
  } finally {
    clearTimeout(quiet);
    clearTimeout(leaving);
    terminal.interrupted.removeEventListener("abort", leave);
  }
}

/** Publishes events to the topic they came from. The messages of those that failed, by their index. */
async function redrive(
  pubsub: SidecarClient["pubsub"],
  topic: string,
  letters: readonly Delivery[],
  component: string,
): Promise<ReadonlyMap<number, string>> {
  const entries = letters.map((letter) => ({ outgoing: outgoingOf(letter) }));
  const { outcomes } = await pubsub.publishBatch({ component, topic, entries });
  return new Map(
    outcomes.flatMap(({ outcome }, index) =>
      outcome.case === "published"
        ? []
        : [[index, `${outcome.value?.reason}: ${outcome.value?.message}`] as const],
    ),
  );
}

/** The event as it was, addressed to the group that gave it up. */
function outgoingOf({ event, key, headers }: Delivery) {
  const { extensions } = event!;
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(extensions)) {
    if (!deadLetterExtensions.includes(name)) kept[name] = value;
  }
  const group = extensions["deadlettergroup"];
  if (group) kept["redrivegroup"] = group;
  return { event: { ...event!, extensions: kept }, key, headers };
}

/** Neighbours that came from the same topic; "" for those that came from none. */
function byOrigin(deliveries: readonly Delivery[]): (readonly [string, Delivery[]])[] {
  const groups: (readonly [string, Delivery[]])[] = [];
  for (const delivery of deliveries) {
    const origin = delivery.event?.extensions["deadlettertopic"] ?? "";
    const last = groups.at(-1);
    if (last?.[0] === origin) last[1].push(delivery);
    else groups.push([origin, [delivery]]);
  }
  return groups;
}

function deadLetterLine({ event, key }: Delivery, color: boolean): string {
  const about = event?.extensions ?? {};
  const facts = [
    paint(color, "dim", about["deadlettertime"] ?? ""),
    paint(color, "red", safe(about["deadletterreason"] ?? "(no dead letter)")),
    about["deadletterattempts"] && `attempts=${safe(about["deadletterattempts"])}`,
    about["deadlettertopic"] && `topic=${safe(about["deadlettertopic"])}`,
    about["deadlettergroup"] && `group=${safe(about["deadlettergroup"])}`,
    `id=${safe(event?.id ?? "")}`,
    key && `key=${safe(key)}`,
    about["deadletterdetail"] && `detail=${JSON.stringify(safe(about["deadletterdetail"]))}`,
  ].filter(Boolean);
  return `${facts.join(" ")} ${lineOf(event?.data ?? new Uint8Array(), event?.dataContentType ?? "")}`;
}
