/** `outrider publish`. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Command, Option } from "commander";
import type { OutgoingSchema } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { SidecarClient } from "./client.ts";
import { linesOf, readAll, readInput } from "./input.ts";
import {
  addSidecarOptions,
  componentOption,
  durationMs,
  gatherPairs,
  instant,
  jsonOption,
  type SidecarOptions,
} from "./options.ts";
import { contentTypeOf } from "./payload.ts";
import { CommandFailure, note, print, printJson, type Terminal, usageFailure } from "./terminal.ts";

/** Events in one message of a publish stream, and the bytes of data after which it is sent anyway. */
const maxBatch = 500;
const maxBatchBytes = 512 * 1024;

interface PublishOptions extends SidecarOptions {
  readonly component?: string;
  readonly file?: string;
  readonly lines?: boolean;
  readonly type?: string;
  readonly source?: string;
  readonly subject?: string;
  readonly id?: string;
  readonly key?: string;
  readonly header?: Record<string, string>;
  readonly extension?: Record<string, string>;
  readonly contentType?: string;
  readonly ttl?: number;
  readonly delay?: number;
  readonly at?: Date;
  readonly raw?: boolean;
  readonly json?: boolean;
}

type Outgoing = Exclude<MessageInitShape<typeof OutgoingSchema>, { $typeName: string }>;

/** The command. */
export function publishCommand(terminal: Terminal): Command {
  const command = new Command("publish")
    .summary("publish an event, or one for each line")
    .description("Publishes an event to a topic. It returns when the broker has the event durably.")
    .argument("<topic>", "where to")
    .argument("[data]", 'the payload; "-" reads it from standard input')
    .option("-f, --file <path>", "read the payload from a file")
    .option(
      "--lines",
      "each line is an event of its own, from standard input unless said; prints how many were acknowledged",
    )
    .option("--type <type>", "CloudEvents type (default: dev.outrider.event)")
    .option("--source <uri>", "CloudEvents source (default: the application's id)")
    .option("--subject <subject>", "CloudEvents subject")
    .option("--id <id>", "CloudEvents id (default: a new one)")
    .option("--content-type <type>", "media type (default: application/json if it is JSON, else text/plain)")
    .addOption(
      new Option("--extension <name=value>", "CloudEvents extension; repeatable").argParser(gatherPairs),
    )
    .option("--key <key>", "ordering key")
    .addOption(new Option("--header <name=value>", "broker header; repeatable").argParser(gatherPairs))
    .addOption(new Option("--ttl <duration>", "the event expires after this long").argParser(durationMs))
    .addOption(new Option("--delay <duration>", "enters the topic after this long").argParser(durationMs))
    .addOption(
      new Option("--at <time>", "enters the topic at this time").argParser(instant).conflicts("delay"),
    )
    .option("--raw", "send the payload alone, without the CloudEvents envelope")
    .addOption(componentOption("pubsub"))
    .addOption(jsonOption("the id and position of the event as JSON"))
    .action((topic: string, data: string | undefined, options: PublishOptions) =>
      publish(terminal, topic, data, options),
    );
  return addSidecarOptions(command);
}

async function publish(terminal: Terminal, topic: string, data: string | undefined, options: PublishOptions) {
  // Lines come from a program more often than not: who says nothing else means standard input.
  const argument = options.lines && options.file === undefined ? (data ?? "-") : data;
  const input = { argument, file: options.file, name: "DATA" };
  if (options.lines && options.id) throw usageFailure("--id: the events of --lines cannot all have one id");
  const payload = options.lines ? undefined : await readAll(terminal, input);
  const { callFailure, connectSidecar } = await import("./client.ts");
  const { pubsub, address } = await connectSidecar(terminal, options);
  try {
    if (payload === undefined) {
      return await publishLines(terminal, pubsub, topic, linesOf(readInput(terminal, input)), options);
    }
    const request = { component: options.component ?? "", topic, outgoing: outgoingOf(payload, options) };
    const { published } = await pubsub.publish(request, { signal: terminal.interrupted });
    const { id = "", position = "" } = published ?? {};
    if (options.json) await printJson(terminal, { topic, id, position });
    else await print(terminal, `${id}\n`);
  } catch (error) {
    throw callFailure(error, address);
  }
}

async function publishLines(
  terminal: Terminal,
  pubsub: SidecarClient["pubsub"],
  topic: string,
  lines: AsyncIterable<Buffer>,
  options: PublishOptions,
) {
  let settled = 0n;
  let failed = 0;
  const stream = pubsub.publishStream(batches(topic, lines, options), { signal: terminal.interrupted });
  try {
    for await (const response of stream) {
      settled = response.settledThrough;
      failed += response.failures.length;
      for (const { sequence, failure } of response.failures) {
        note(terminal, `outrider: event ${sequence}: ${failure?.reason}: ${failure?.message}`);
      }
    }
  } finally {
    // Told also when the stream broke: what was acknowledged is published.
    const acknowledged = Number(settled) - failed;
    if (options.json) await printJson(terminal, { topic, acknowledged, failed });
    else
      await print(
        terminal,
        `${acknowledged} ${acknowledged === 1 ? "event" : "events"} published to ${topic}\n`,
      );
  }
  if (failed > 0)
    throw new CommandFailure(`${failed} ${failed === 1 ? "event was" : "events were"} not published`);
}

/** Lines that are there together go in one message; one that is alone does not wait for others. */
async function* batches(topic: string, lines: AsyncIterable<Buffer>, options: PublishOptions) {
  // The first message names the topic; it is sent also when there is no event at all.
  let head = { component: options.component ?? "", topic };
  let outgoing: Outgoing[] = [];
  let bytes = 0;
  const iterator = lines[Symbol.asyncIterator]();
  let next = iterator.next();
  for (;;) {
    const waiting = Symbol("waiting");
    const first = outgoing.length === 0 ? await next : await Promise.race([next, turn(waiting)]);
    if (first === waiting || outgoing.length >= maxBatch || bytes >= maxBatchBytes) {
      yield { ...head, outgoing };
      head = { component: "", topic: "" };
      outgoing = [];
      bytes = 0;
      continue;
    }
    const { done, value } = first as IteratorResult<Buffer, void>;
    if (done || value === undefined) break;
    outgoing.push(outgoingOf(value, options));
    bytes += value.length;
    next = iterator.next();
  }
  if (outgoing.length > 0) yield { ...head, outgoing };
}

/** Resolves when everything that is ready has had its turn. */
function turn<T>(value: T): Promise<T> {
  return new Promise((resolve) => setImmediate(resolve, value));
}

function outgoingOf(data: Uint8Array, options: PublishOptions): Outgoing {
  return {
    event: {
      id: options.id ?? "",
      source: options.source ?? "",
      type: options.type ?? "",
      subject: options.subject ?? "",
      dataContentType: options.contentType ?? contentTypeOf(data),
      data,
      extensions: options.extension ?? {},
    },
    key: options.key ?? "",
    headers: options.header ?? {},
    raw: options.raw ?? false,
    ...(options.ttl === undefined ? {} : { timeToLive: durationFromMs(options.ttl) }),
    ...(options.delay === undefined ? {} : { deliverAfter: durationFromMs(options.delay) }),
    ...(options.at === undefined ? {} : { deliverAt: timestampFromDate(options.at) }),
  };
}
