/** An application that listens for HTTP: events are POSTed to its routes. */
import { randomUUID } from "node:crypto";
import type { Received } from "../../../blocks/pubsub/driver.ts";
import type { Log } from "../../../telemetry/log.ts";
import { lowerNames } from "../any-case.ts";
import { cloudEventType } from "../cloud-event.ts";
import type { TopicEventOutcome, TopicSubscriptionSpec } from "../topic-subscription.ts";
import { type AppPipeline, PipedClient } from "./app-pipeline.ts";
import { bodyOf } from "./body.ts";
import type { Answer, AppChannel, AppOptions, BulkDelivery, Delivery } from "./channel.ts";
import { subscriptionsOfJson } from "./discovery.ts";
import { brokerHeadersOf, eventTraceOf } from "./headers.ts";
import { type HttpClient, httpClient } from "./http-client.ts";

const bulkEventType = "com.dapr.event.sent.bulk";
const outcomes: Readonly<Record<string, TopicEventOutcome>> = {
  SUCCESS: "success",
  RETRY: "retry",
  DROP: "drop",
};
/** What is logged of an answer, in characters. */
const maxDetailLength = 200;

/** See the head of this file. */
export class HttpAppChannel implements AppChannel {
  /** Without the handlers: what they do is not about health. */
  readonly #bare: HttpClient;
  readonly #client: HttpClient;
  readonly #common: Readonly<Record<string, string>>;
  readonly #healthPath: string;
  readonly #log: Log;

  constructor(options: AppOptions, pipeline: AppPipeline, maxMessageBytes: number, log: Log) {
    const { channelAddress: host, port, token, health } = options;
    const protocol = options.protocol === "https" || options.protocol === "h2c" ? options.protocol : "http";
    this.#bare = httpClient({ protocol, host, port, maxAnswerBytes: maxMessageBytes });
    this.#client = new PipedClient(this.#bare, pipeline);
    this.#common = token === "" ? {} : { "dapr-api-token": token };
    this.#healthPath = pathOf(health?.path ?? "/healthz");
    this.#log = log;
  }

  async loadConfig(signal: AbortSignal): Promise<void> {
    await this.#get("/dapr/config", signal);
  }

  async listSubscriptions(signal: AbortSignal): Promise<readonly TopicSubscriptionSpec[]> {
    const { status, body } = await this.#get("/dapr/subscribe", signal);
    if (status !== 200) {
      this.#log.debug({ status }, "the application lists no subscriptions");
      return [];
    }
    try {
      return subscriptionsOfJson(body);
    } catch (err) {
      this.#log.error({ err }, "the application's list of subscriptions cannot be read");
      return [];
    }
  }

  async deliver({ spec, path, received }: Delivery, signal: AbortSignal): Promise<Answer> {
    const { traceparent, tracestate, baggage } = eventTraceOf(received, spec);
    const headers = {
      ...brokerHeadersOf(received),
      ...this.#common,
      "content-type": cloudEventType,
      traceparent,
      ...(tracestate !== "" && { tracestate }),
      ...(baggage !== "" && { baggage }),
    };
    const body = Buffer.from(bodyOf(received, spec));
    const { status, body: answer } = await this.#post(path, headers, body, signal);
    if (status === 404) return { outcome: "drop", detail: "the application answered 404" };
    if (!isSuccess(status)) {
      const said = answer.slice(0, maxDetailLength);
      const detail = `the application answered ${status}${said && `: ${said}`}`;
      return { outcome: "retry", detail, httpStatus: status };
    }
    return { outcome: outcomeOf(statusIn(answer) || "SUCCESS"), detail: "" };
  }

  async deliverBulk(delivery: BulkDelivery, signal: AbortSignal): Promise<ReadonlyMap<string, Answer>> {
    const { path, entries } = delivery;
    const headers = { ...this.#common, "content-type": "application/json" };
    const body = Buffer.from(bulkBodyOf(delivery));
    const { status, body: answer } = await this.#post(path, headers, body, signal);
    const all = (answered: Answer) => new Map([...entries.keys()].map((id) => [id, answered]));
    // Unlike a single event, a batch that is dropped does not become dead letters.
    if (status === 404) return all({ outcome: "success", detail: "" });
    // Unlike that of a single event, its status is nothing that a policy could match, as in Dapr.
    if (!isSuccess(status)) return all({ outcome: "retry", detail: `the application answered ${status}` });
    return answersIn(answer);
  }

  async healthy(signal: AbortSignal): Promise<boolean> {
    const headers = this.#common;
    const { status } = await this.#bare
      .request({ method: "GET", path: this.#healthPath, headers }, signal)
      .catch(() => ({ status: 0 }));
    return isSuccess(status);
  }

  close(): void {
    this.#client.close();
  }

  #get(path: string, signal: AbortSignal) {
    return this.#client.request({ method: "GET", path, headers: this.#common }, signal);
  }

  #post(path: string, headers: Record<string, string>, body: Buffer, signal: AbortSignal) {
    const length = String(body.byteLength);
    return this.#client.request(
      { method: "POST", path: pathOf(path), headers: { ...headers, "content-length": length }, body },
      signal,
    );
  }
}

/** A route as a path: it may lack the slash, and have anything in it. What is escaped already stays so. */
export function pathOf(route: string): string {
  const path = route.startsWith("/") ? route : `/${route}`;
  return path
    .toWellFormed()
    .replace(/%(?![0-9A-Fa-f]{2})/g, "%25")
    .replace(/[^\w/?&=%.~!$'()*+,;:@-]+/g, (characters) => encodeURIComponent(characters));
}

function isSuccess(status: number): boolean {
  return status >= 200 && status <= 299;
}

function outcomeOf(status: string): TopicEventOutcome {
  return outcomes[status] ?? "retry";
}

/** The `status` of an answer; "" where there is none, or nothing that can be read. */
function statusIn(answer: string): string {
  try {
    const { status } = lowerNames(JSON.parse(answer)) as { status?: unknown };
    return typeof status === "string" ? status : "";
  } catch {
    return "";
  }
}

/** The answers by entry; those that it lacks, or has no status for, are for its caller. */
function answersIn(answer: string): ReadonlyMap<string, Answer> {
  const answers = new Map<string, Answer>();
  try {
    const { statuses } = lowerNames(JSON.parse(answer)) as { statuses?: unknown };
    if (!Array.isArray(statuses)) return answers;
    for (const each of statuses.map(lowerNames) as readonly { entryid?: unknown; status?: unknown }[])
      if (typeof each?.entryid === "string")
        answers.set(each.entryid, { outcome: outcomeOf(String(each.status ?? "")), detail: "" });
  } catch {
    // Nothing was said of any entry.
  }
  return answers;
}

function bulkBodyOf({ spec, entries }: BulkDelivery): string {
  const envelope = {
    id: randomUUID(),
    topic: spec.topic,
    pubsubname: spec.pubsubName,
    type: bulkEventType,
    metadata: { pubsubName: spec.pubsubName },
  };
  const items = [...entries].map(([entryId, received]) => entryOf(entryId, received, spec));
  return `${JSON.stringify(envelope).slice(0, -1)},"entries":[${items.join(",")}]}`;
}

function entryOf(entryId: string, received: Received, spec: TopicSubscriptionSpec): string {
  const metadata = brokerHeadersOf(received);
  if (spec.raw) {
    const event = Buffer.from(received.event.data).toString("base64");
    return JSON.stringify({ entryId, event, contentType: "application/octet-stream", metadata });
  }
  const entry = JSON.stringify({ entryId, contentType: cloudEventType, metadata });
  return `${entry.slice(0, -1)},"event":${bodyOf(received, spec)}}`;
}
