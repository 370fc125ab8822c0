/** What an `Open` asks for, parsed once: defaults filled in, limits checked. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { Open } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { backoffMs } from "../../backoff.ts";
import { invalidRequest, type Violation } from "../../faults.ts";
import { durationFromMs, durationMs, timestampMs } from "../../protobuf/times.ts";
import type { StartAt } from "./driver.ts";
import type { InboxOptions } from "./inbox.ts";
import { compileRouting, type Routing } from "./routing.ts";
import { isPattern, matchesPattern, topicViolation } from "./topics.ts";

/** What the streams of one group share, and must agree in. */
export interface SharedOptions {
  readonly topic: string;
  /** Undefined: a broadcast. */
  readonly group: string | undefined;
  readonly start: StartAt;
  readonly ordered: boolean;
  readonly raw: boolean;
  readonly routing: Routing;
  readonly retry: RetryOptions;
  /** Empty: none. */
  readonly deadLetterTopic: string;
  /** Undefined: none. */
  readonly inbox: InboxOptions | undefined;
  /** What a subscription of Dapr's says to the broker. Absent: nothing. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** When, and how often, a delivery is repeated. */
export interface RetryOptions {
  /** Deliveries of one event in all; Infinity: without end. */
  readonly maxAttempts: number;
  readonly initialDelayMs: number;
  readonly maxDelayMs: number;
}

/** What each stream chooses for itself. */
export interface StreamOptions {
  /** 1 to 65,536. */
  readonly maxInFlight: number;
  /** 1 to 1,024. */
  readonly maxBatch: number;
  /** 100 to 86,400,000. */
  readonly settleWithinMs: number;
}

/** A subscription that a resource in the YAML declares. */
export interface DeclaredSubscription {
  /** The resource's name. */
  readonly name: string;
  readonly component: string;
  readonly topic: string;
  readonly routes: readonly { readonly name: string; readonly rule: string }[];
  /** The route of what no rule matches; empty: none. */
  readonly defaultRoute: string;
  /** Empty: none. */
  readonly deadLetterTopic: string;
  readonly raw: boolean;
}

const defaultMaxInFlight = 256;
const maxInFlightLimit = 65_536;
const defaultMaxBatch = 64;
const maxBatchLimit = 1024;
const defaultSettleWithinMs = 60_000;
const defaultInitialDelayMs = 1000;
const defaultMaxDelayMs = 60_000;
const defaultInboxWindowMs = 24 * 60 * 60 * 1000;
const minInboxWindowMs = 1000;
const maxInboxWindowMs = 366 * 24 * 60 * 60 * 1000;
/** The shortest deadline that a delivery may have. */
export const minSettleWithinMs = 100;
/** The longest deadline, and the longest delay of a retry. */
export const maxWaitMs = 24 * 60 * 60 * 1000;

/** Takes what a declared subscription states into an Open that names it. */
export function withDeclared(open: Open, declared: DeclaredSubscription): Open {
  return {
    ...open,
    component: declared.component,
    topic: declared.topic,
    routes: declared.routes.map((route) => ({ $typeName: "outrider.pubsub.v1.Route", ...route })),
    defaultRoute: declared.defaultRoute,
    deadLetterTopic: declared.deadLetterTopic,
    raw: declared.raw,
  };
}

/** Reads an Open. `defaultGroup` is whose it is when it names none. Throws INVALID_REQUEST naming every field at fault. */
export function parseOpen(
  open: Open,
  defaultGroup: string,
): { shared: SharedOptions; stream: StreamOptions } {
  const violations: Violation[] = [];
  const no = (field: string, description: string) => void violations.push({ field, description });
  const topic = topicViolation(open.topic);
  if (topic) no("open.topic", topic);
  const deadLetter = open.deadLetterTopic && deadLetterViolation(open.deadLetterTopic, open.topic);
  if (deadLetter) no("open.dead_letter_topic", deadLetter);
  if (open.broadcast && open.group) no("open.group", "must be empty with broadcast");
  const group = open.group || defaultGroup;
  if (Buffer.byteLength(group) > 256 || hasControl(group))
    no("open.group", "must have at most 256 bytes and no control characters");
  if (open.maxInFlight > maxInFlightLimit)
    no("open.max_in_flight", `must be 1 to ${maxInFlightLimit}, or 0 for ${defaultMaxInFlight}`);
  if (open.maxBatch > maxBatchLimit)
    no("open.max_batch", `must be 1 to ${maxBatchLimit}, or 0 for ${defaultMaxBatch}`);
  const settleWithinMs = open.settleWithin ? durationMs(open.settleWithin) : defaultSettleWithinMs;
  if (!(settleWithinMs >= minSettleWithinMs && settleWithinMs <= maxWaitMs))
    no("open.settle_within", "must be 100 ms to 24 h");
  const start = parseStart(open, no);
  const retry = parseRetry(open, no);
  const inbox = parseInbox(open, no);
  const routing = compileRouting(open.routes, open.defaultRoute, no);
  if (violations.length > 0) throw invalidRequest(...violations);
  return {
    shared: {
      topic: open.topic,
      group: open.broadcast ? undefined : group,
      start,
      ordered: open.ordered,
      raw: open.raw,
      routing,
      retry,
      deadLetterTopic: open.deadLetterTopic,
      inbox,
    },
    stream: {
      maxInFlight: open.maxInFlight || defaultMaxInFlight,
      maxBatch: open.maxBatch || defaultMaxBatch,
      settleWithinMs,
    },
  };
}

/** The Open that was agreed: what was asked, with the defaults in. */
export function agreedOpen(
  open: Open,
  component: string,
  shared: SharedOptions,
  stream: StreamOptions,
): Open {
  return {
    ...open,
    component,
    group: shared.group ?? "",
    maxInFlight: stream.maxInFlight,
    maxBatch: stream.maxBatch,
    settleWithin: durationFromMs(stream.settleWithinMs),
    start: { $typeName: "outrider.pubsub.v1.Start", at: agreedStart(open, shared.start) },
    retry: {
      $typeName: "outrider.pubsub.v1.Retry",
      maxAttempts: Number.isFinite(shared.retry.maxAttempts) ? shared.retry.maxAttempts : 0,
      initialDelay: durationFromMs(shared.retry.initialDelayMs),
      maxDelay: durationFromMs(shared.retry.maxDelayMs),
    },
    ...(shared.inbox && {
      inbox: {
        $typeName: "outrider.pubsub.v1.Inbox",
        store: shared.inbox.store,
        window: durationFromMs(shared.inbox.windowMs),
      },
    }),
  };
}

/** Names the option in which two openings of one group differ; undefined when they agree. */
export function disagreement(one: SharedOptions, other: SharedOptions): string | undefined {
  if (one.ordered !== other.ordered) return "ordered";
  if (one.raw !== other.raw) return "raw";
  if (one.deadLetterTopic !== other.deadLetterTopic) return "dead_letter_topic";
  if (one.routing.text !== other.routing.text) return "routes";
  if (one.inbox?.store !== other.inbox?.store || one.inbox?.windowMs !== other.inbox?.windowMs)
    return "inbox";
  const same = (key: keyof RetryOptions) => one.retry[key] === other.retry[key];
  return same("maxAttempts") && same("initialDelayMs") && same("maxDelayMs") ? undefined : "retry";
}

/** Milliseconds until attempt `attempt + 1`: exponential, without jitter, so that a client can foretell it. */
export function retryDelayMs({ initialDelayMs, maxDelayMs }: RetryOptions, attempt: number): number {
  return backoffMs(attempt, { firstMs: initialDelayMs, lastMs: maxDelayMs });
}

/** A group that received its own dead letters would give them up again, without end. */
function deadLetterViolation(deadLetterTopic: string, topic: string): string | undefined {
  const description = topicViolation(deadLetterTopic);
  if (description) return description;
  if (isPattern(deadLetterTopic)) return "must not be a pattern";
  if (deadLetterTopic === topic) return "must not be the topic itself";
  return isPattern(topic) && matchesPattern(topic, deadLetterTopic)
    ? "must not be one of the topics that the pattern stands for"
    : undefined;
}

type No = (field: string, description: string) => void;

function parseStart(open: Open, no: No): StartAt {
  const at = open.start?.at;
  switch (at?.case) {
    case "earliest":
    case "latest":
      if (!at.value) no(`open.start.${at.case}`, "must be true");
      return { at: at.case };
    case "time":
      return { at: "time", timeMs: timestampMs(at.value) };
    case "position":
      if (at.value === "") no("open.start.position", "must not be empty");
      return { at: "position", position: at.value };
    default:
      return { at: open.broadcast ? "latest" : "earliest" };
  }
}

function agreedStart(open: Open, start: StartAt): NonNullable<Open["start"]>["at"] {
  if (start.at === "earliest") return { case: "earliest", value: true };
  if (start.at === "latest") return { case: "latest", value: true };
  return open.start!.at;
}

function parseRetry(open: Open, no: No): RetryOptions {
  const delay = (field: string, value: Duration | undefined, fallback: number) => {
    const delayMs = value ? durationMs(value) : fallback;
    if (!(delayMs >= 0 && delayMs <= maxWaitMs)) no(`open.retry.${field}`, "must be 0 to 24 h");
    return delayMs;
  };
  const initialDelayMs = delay("initial_delay", open.retry?.initialDelay, defaultInitialDelayMs);
  const maxDelayMs = delay("max_delay", open.retry?.maxDelay, Math.max(defaultMaxDelayMs, initialDelayMs));
  if (maxDelayMs < initialDelayMs) no("open.retry.max_delay", "must not be shorter than initial_delay");
  return { maxAttempts: open.retry?.maxAttempts || Number.POSITIVE_INFINITY, initialDelayMs, maxDelayMs };
}

function parseInbox({ inbox, raw, broadcast }: Open, no: No): InboxOptions | undefined {
  if (!inbox) return undefined;
  if (raw)
    no("open.inbox", "must not be set with raw: events without an envelope have no id to know them by");
  if (broadcast) no("open.inbox", "must not be set with broadcast: there is no group that could remember");
  const windowMs = inbox.window ? durationMs(inbox.window) : defaultInboxWindowMs;
  if (!(windowMs >= minInboxWindowMs && windowMs <= maxInboxWindowMs))
    no("open.inbox.window", "must be 1 s to 366 days");
  return { store: inbox.store, windowMs };
}

function hasControl(text: string): boolean {
  return /\p{Cc}/u.test(text);
}
