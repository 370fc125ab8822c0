/** `outrider subscribe`. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Command, Option } from "commander";
import type { Delivery } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { backoffMs } from "../backoff.ts";
import { pause } from "../pause.ts";
import type { SidecarClient } from "./client.ts";
import { EventStream, type OpenRequest } from "./event-stream.ts";
import { deliveryJson, deliveryLine } from "./events.ts";
import {
  addSidecarOptions,
  componentOption,
  gatherPairs,
  jsonOption,
  type SidecarOptions,
  wholeNumber,
} from "./options.ts";
import { note, print, printJson, type Terminal } from "./terminal.ts";

/** Before the stream is opened again: longer each time it fails at once. */
const reconnects = { firstMs: 250, lastMs: 5000 };
/** How long leaving in peace may take, in milliseconds. */
const leaveWithinMs = 5000;
/** What is held at once where nothing asks for less. */
const defaultMaxInFlight = 256;

interface SubscribeOptions extends SidecarOptions {
  readonly component?: string;
  readonly group?: string;
  readonly broadcast?: boolean;
  readonly from?: string;
  readonly ordered?: boolean;
  readonly deadLetter?: string;
  readonly route?: Record<string, string>;
  readonly max?: number;
  readonly ack?: boolean;
  readonly reject?: boolean;
  readonly hold?: boolean;
  readonly json?: boolean;
}

/** The command. */
export function subscribeCommand(terminal: Terminal): Command {
  const command = new Command("subscribe")
    .summary("print events as they come")
    .description(
      "Prints the events of topics as they come, all over one stream, until it is interrupted. " +
        "It reconnects when the sidecar goes away.",
    )
    .argument("<topics...>", "what to receive")
    .addOption(jsonOption("each event as a line of CloudEvents JSON"))
    .addOption(new Option("--max <count>", "end after this many events").argParser(wholeNumber(1)))
    .addOption(
      new Option("--ack", "acknowledge each event once it is printed (default)").conflicts([
        "reject",
        "hold",
      ]),
    )
    .addOption(
      new Option("--reject", "reject each event: to the dead-letter topic, or away").conflicts("hold"),
    )
    .option("--hold", "settle nothing: the events are delivered again later")
    .option("--group <name>", "consumer group (default: the application's id)")
    .addOption(new Option("--broadcast", "no group: everything from now on").conflicts("group"))
    .option(
      "--from <start>",
      'where a new group begins: "earliest", "latest", a time (RFC 3339) or a position',
    )
    .option("--ordered", "one event of a key at a time, in the order of publishes")
    .option("--dead-letter <topic>", "where rejected and worn-out events go")
    .addOption(
      new Option("--route <name=rule>", "name events by a CEL rule; repeatable").argParser(gatherPairs),
    )
    .addOption(componentOption("pubsub"))
    .action((topics: string[], options: SubscribeOptions) => subscribe(terminal, topics, options));
  return addSidecarOptions(command);
}

async function subscribe(
  terminal: Terminal,
  topics: readonly string[],
  options: SubscribeOptions,
): Promise<void> {
  const { callFailure, connectSidecar, isAway } = await import("./client.ts");
  const { pubsub, address } = await connectSidecar(terminal, options);
  const printer = new Printer(terminal, options);
  let failures = 0;
  let connectedOnce = false;
  while (!terminal.interrupted.aborted && !printer.done) {
    let connected = false;
    const onOpened = (topic: string) => {
      if (!connected) failures = 0;
      connected = connectedOnce = true;
      note(terminal, `outrider: receiving ${topic}`);
    };
    try {
      await receive(terminal, pubsub, openRequests(topics, options), printer, onOpened);
    } catch (error) {
      if (terminal.interrupted.aborted) return;
      if (!isAway(error) || !connectedOnce) throw callFailure(error, address);
    }
    if (terminal.interrupted.aborted || printer.done) return;
    if (connected) note(terminal, "outrider: the sidecar went away; waiting for it to come back");
    failures += 1;
    await pause(backoffMs(failures, reconnects), terminal.interrupted);
  }
}

/** One stream, from its opening to its end. */
async function receive(
  terminal: Terminal,
  pubsub: SidecarClient["pubsub"],
  opens: readonly OpenRequest[],
  printer: Printer,
  onOpened: (topic: string) => void,
): Promise<void> {
  const abandon = new AbortController();
  const stream = new EventStream(pubsub, opens, {
    opened: onOpened,
    draining: () => note(terminal, "outrider: the sidecar is stopping"),
    complaint: (message) => note(terminal, `outrider: ${message}`),
  });
  let timer: NodeJS.Timeout | undefined;
  const leave = () => {
    if (timer !== undefined) return;
    // Who holds what it prints can only go without a word; so must who is not answered.
    timer = setTimeout(() => abandon.abort(), printer.holds ? 0 : leaveWithinMs);
    stream.leave();
    printer.settleKept(stream);
  };
  const interrupted = terminal.interrupted;
  interrupted.addEventListener("abort", leave, { once: true });
  if (interrupted.aborted) leave();
  try {
    for await (const deliveries of stream.deliveries(abandon.signal)) {
      await printer.take(deliveries, stream);
      if (printer.done) leave();
    }
  } catch (error) {
    if (!abandon.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
    interrupted.removeEventListener("abort", leave);
  }
}

/** Prints deliveries and settles them; knows how many are still wanted. */
class Printer {
  readonly holds: boolean;
  readonly #terminal: Terminal;
  readonly #options: SubscribeOptions;
  readonly #outcome: "ack" | "reject";
  #printed = 0;
  #kept: Delivery[] = [];

  constructor(terminal: Terminal, options: SubscribeOptions) {
    this.#terminal = terminal;
    this.#options = options;
    this.#outcome = options.reject ? "reject" : "ack";
    this.holds = options.hold ?? false;
  }

  /** Whether as many as were wanted have been printed. */
  get done(): boolean {
    return this.#printed >= (this.#options.max ?? Number.POSITIVE_INFINITY);
  }

  async take(deliveries: readonly Delivery[], stream: EventStream): Promise<void> {
    const max = this.#options.max ?? Number.POSITIVE_INFINITY;
    const wanted = deliveries.slice(0, max - this.#printed);
    for (const delivery of wanted) {
      if (this.#options.json) await printJson(this.#terminal, ...deliveryJson(delivery));
      else await print(this.#terminal, `${deliveryLine(delivery, this.#terminal.colorOut)}\n`);
      this.#printed++;
    }
    // What nobody sees is not settled as if somebody had.
    const unseen =
      this.#terminal.interrupted.reason === "EPIPE" ? deliveries : deliveries.slice(wanted.length);
    if (unseen.length > 0) stream.settle(unseen, "retry", 0);
    if (this.holds || unseen === deliveries) return;
    // The last one waits until the subscription is closed, so that no other follows it.
    if (this.done) this.#kept.push(...wanted);
    else if (wanted.length > 0) stream.settle(wanted, this.#outcome);
  }

  /** Settles the last, after the stream has been told to deliver no more. */
  settleKept(stream: EventStream): void {
    if (this.#kept.length > 0) stream.settle(this.#kept, this.#outcome);
    this.#kept = [];
  }
}

function openRequests(topics: readonly string[], options: SubscribeOptions): OpenRequest[] {
  const start = options.from === undefined ? {} : { start: { at: startAt(options.from) } };
  const routes = Object.entries(options.route ?? {}).map(([name, rule]) => ({ name, rule }));
  return topics.map((topic) => ({
    topic,
    component: options.component ?? "",
    group: options.group ?? "",
    broadcast: options.broadcast ?? false,
    ordered: options.ordered ?? false,
    deadLetterTopic: options.deadLetter ?? "",
    routes,
    // One at a time where the number is limited, so that what is not wanted is not delivered.
    maxInFlight: options.max === undefined ? defaultMaxInFlight : 1,
    ...start,
  }));
}

function startAt(from: string) {
  if (from === "earliest") return { case: "earliest" as const, value: true };
  if (from === "latest") return { case: "latest" as const, value: true };
  const time = new Date(from);
  if (/^\d{4}-\d\d-\d\d/.test(from) && !Number.isNaN(time.getTime())) {
    return { case: "time" as const, value: timestampFromDate(time) };
  }
  return { case: "position" as const, value: from };
}
