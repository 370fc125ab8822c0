/** The pub/sub service over a memory broker, and streams on it as an application has them. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { createHandlerContext } from "@connectrpc/connect";
import {
  type Closed,
  type Delivery,
  type Open,
  type Opened,
  OpenSchema,
  Outcome,
  OutgoingSchema,
  PublishRequestSchema,
  PubSubService,
  type SubscribeRequest,
  SubscribeRequestSchema,
  type SubscribeResponse,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { Bus } from "../../../src/blocks/pubsub/bus.ts";
import type { PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";
import type { DeclaredSubscription } from "../../../src/blocks/pubsub/options.ts";
import { pubSubService } from "../../../src/blocks/pubsub/service.ts";
import { type PubSubSettings, pubSubSettings } from "../../../src/blocks/pubsub/settings.ts";
import { SubscribeStreams } from "../../../src/blocks/pubsub/subscribe-streams.ts";
import type { StateDriver } from "../../../src/blocks/state/driver.ts";
import { HandledEvents } from "../../../src/blocks/state/handled-events.ts";
import { memoryPubSub } from "../../../src/components/memory/pubsub.ts";
import { fault } from "../../../src/faults.ts";
import type { Telemetry } from "../../../src/telemetry/telemetry.ts";
import { openContext } from "../../components/open-context.ts";
import { quietTelemetry } from "../../telemetry/quiet-telemetry.ts";

/** A sidecar's pub/sub block without ports. */
export interface Sidecar {
  readonly bus: Bus;
  readonly service: ReturnType<typeof pubSubService>;
  readonly streams: SubscribeStreams;
  readonly telemetry: Telemetry;
  /** Publishes texts, each an event of its own, and answers their ids. */
  publish(topic: string, ...texts: string[]): Promise<string[]>;
  /** Publishes one event as given. */
  send(topic: string, outgoing: MessageInitShape<typeof OutgoingSchema>, headers?: Headers): Promise<string>;
  /** Opens a stream. */
  stream(): Stream;
  close(): Promise<void>;
}

/** What a test may choose. */
export interface SidecarOptions {
  readonly appId?: string;
  readonly settings?: Record<string, string>;
  readonly declared?: readonly DeclaredSubscription[];
  readonly telemetry?: Telemetry;
  readonly maxEventBytes?: number;
  /** Where inboxes are kept. */
  readonly store?: StateDriver;
  /** Stands between the bus and the memory broker. */
  readonly wrap?: (driver: PubSubDriver) => PubSubDriver;
}

/** The context of a call with these headers. */
export function contextWith(headers = new Headers()) {
  return createHandlerContext({
    service: PubSubService,
    method: PubSubService.method.publish,
    protocolName: "grpc",
    requestMethod: "POST",
    url: "",
    requestHeader: headers,
  });
}

/** Starts one. */
export async function startSidecar(options: SidecarOptions = {}): Promise<Sidecar> {
  const telemetry = options.telemetry ?? quietTelemetry();
  const settings: PubSubSettings = pubSubSettings.parse(options.settings ?? {});
  const opened = await memoryPubSub.configure(memoryPubSub.schema.parse({}))(openContext());
  const driver = options.wrap?.(opened) ?? opened;
  const connection = {
    component: "pubsub",
    type: "pubsub.in-memory",
    current: () => driver,
    ready: async () => driver,
  };
  const bus = new Bus({
    connection,
    settings,
    telemetry,
    appId: options.appId ?? "app",
    maxEventBytes: options.maxEventBytes ?? 1 << 20,
    inboxMemoryOf: ({ store, windowMs }, owner) => {
      const driver = options.store;
      if (!driver || store !== "") throw fault("COMPONENT_NOT_FOUND", `no state store is called "${store}"`);
      const stateConnection = {
        component: "state",
        type: "state.test",
        current: () => driver,
        ready: async () => driver,
      };
      return new HandledEvents({ connection: () => stateConnection, windowMs, ...owner });
    },
  });
  const streams = new SubscribeStreams(telemetry);
  const service = pubSubService({
    busOf: (name) => {
      if (name === "" || name === "pubsub") return bus;
      throw fault("COMPONENT_NOT_FOUND", `no pub/sub component is called "${name}"`);
    },
    declared: new Map((options.declared ?? []).map((one) => [one.name, one])),
    streams,
    telemetry,
  });
  const send: Sidecar["send"] = async (topic, outgoing, headers) => {
    const request = create(PublishRequestSchema, { topic, outgoing: create(OutgoingSchema, outgoing) });
    const response = await service.publish(request, contextWith(headers));
    return response.published!.id!;
  };
  return {
    bus,
    service,
    streams,
    telemetry,
    send,
    async publish(topic, ...texts) {
      const ids: string[] = [];
      for (const text of texts)
        ids.push(await send(topic, { event: { data: new TextEncoder().encode(text) } }));
      return ids;
    },
    stream: () => new Stream(service),
    async close() {
      for (const session of streams) session.giveBack();
      await bus.close();
      await driver.close();
    },
  };
}

/** What an Open of a test gives; `subscription` is 1 unless given. */
export type OpenInit = Omit<MessageInitShape<typeof OpenSchema>, "$typeName">;

/** A subscribe stream as an application has it. */
export class Stream {
  readonly #requests = new Pushable<SubscribeRequest>();
  readonly #responses: AsyncIterator<SubscribeResponse>;
  readonly #ahead: SubscribeResponse[] = [];
  readonly #pending: Delivery[] = [];

  constructor(service: Sidecar["service"]) {
    const responses = service.subscribe(this.#requests, contextWith()) as AsyncIterable<SubscribeResponse>;
    this.#responses = responses[Symbol.asyncIterator]();
  }

  /** Says something. */
  say(message: MessageInitShape<typeof SubscribeRequestSchema>["message"]): void {
    this.#requests.push(create(SubscribeRequestSchema, { message }));
  }

  /** Opens a subscription, and answers what was agreed. Throws what it was refused with. */
  async open(open: OpenInit): Promise<Open> {
    this.say({ case: "open", value: create(OpenSchema, { subscription: 1, ...open }) });
    const answer = await this.answer("opened", "closed");
    if (answer.$typeName === "outrider.pubsub.v1.Closed")
      throw Object.assign(new Error(answer.message), { closed: answer });
    return (answer as Opened).agreed!;
  }

  /** The next answer that is one of these; deliveries that come before it are kept. */
  async answer<Case extends "opened" | "closed" | "complaint" | "drain">(...cases: Case[]) {
    type Answer = Extract<SubscribeResponse["message"], { case: Case }>["value"];
    for (;;) {
      const { message } = await this.#next();
      if (message.case === "deliver") this.#pending.push(...message.value.deliveries);
      else if (cases.includes(message.case as Case)) return message.value as Answer;
      else
        throw new Error(
          `expected ${cases.join(" or ")}, got ${JSON.stringify(message, (_key, value) => (typeof value === "bigint" ? String(value) : value))}`,
        );
    }
  }

  /** The next frame of deliveries, whole. */
  async frame(): Promise<Delivery[]> {
    if (this.#pending.length > 0) return this.#pending.splice(0);
    const { message } = await this.#next();
    if (message.case !== "deliver") throw new Error(`expected deliveries, got ${message.case}`);
    return message.value.deliveries;
  }

  /** The next deliveries, `count` of them. */
  async deliveries(count: number): Promise<Delivery[]> {
    const all: Delivery[] = [];
    while (all.length < count) {
      const frame = await this.frame();
      all.push(...frame.splice(0, count - all.length));
      this.#pending.unshift(...frame);
    }
    return all;
  }

  /** The next delivery. */
  async delivery(): Promise<Delivery> {
    return (await this.deliveries(1))[0]!;
  }

  /** True when no delivery comes although a fence, published after all else on a topic of its own, has. */
  async quiet(sidecar: Sidecar): Promise<boolean> {
    const topic = `fence-${Math.random()}`;
    const subscription = 60_000 + Math.floor(Math.random() * 1_000_000);
    await this.open({ subscription, topic, broadcast: true });
    await sidecar.publish(topic, "fence");
    const first = await this.delivery();
    this.say({ case: "settle", value: { deliveries: [{ first: first.id }], outcome: Outcome.ACK } });
    this.say({ case: "close", value: { subscription } });
    await this.answer("closed");
    return first.subscription === subscription;
  }

  settle(
    outcome: Outcome,
    deliveries: readonly Delivery[],
    more: { delayMs?: number; reason?: string } = {},
  ): void {
    const delay =
      more.delayMs === undefined
        ? undefined
        : { seconds: BigInt(Math.floor(more.delayMs / 1000)), nanos: (more.delayMs % 1000) * 1e6 };
    this.say({
      case: "settle",
      value: { deliveries: deliveries.map(({ id }) => ({ first: id })), outcome, delay, reason: more.reason },
    });
  }

  ack(...deliveries: readonly Delivery[]): void {
    this.settle(Outcome.ACK, deliveries);
  }

  /** Has nothing more to say. */
  halfClose(): void {
    this.#requests.end();
  }

  /** Resolves when the sidecar has ended the stream; throws what it ended it with. */
  async end(): Promise<void> {
    for (;;) {
      const { done, value } = await this.#responses.next();
      if (done) return;
      if (value.message.case === "deliver") this.#pending.push(...value.message.value.deliveries);
      else this.#ahead.push(value);
    }
  }

  /** Vanishes. */
  async vanish(): Promise<void> {
    this.#requests.end(new Error("the client has gone"));
    await this.#responses.return?.();
  }

  async #next(): Promise<SubscribeResponse> {
    const ahead = this.#ahead.shift();
    if (ahead) return ahead;
    const { done, value } = await this.#responses.next();
    if (done) throw new Error("the stream has ended");
    return value;
  }
}

/** The refusal that `Stream.open` threw. */
export async function refusalOf(opening: Promise<unknown>): Promise<Closed> {
  const error = await opening.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof Error && "closed" in error) return error.closed as Closed;
  throw new Error("it was not refused", { cause: error });
}

/** The text of an event's data. */
export function textOf(delivery: Delivery): string {
  return new TextDecoder().decode(delivery.event!.data);
}

/** An async iterable that a test pushes into. */
export class Pushable<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #wake: (() => void) | undefined;
  #ended = false;
  #error: Error | undefined;

  push(item: T): void {
    this.#items.push(item);
    this.#wake?.();
  }

  end(error?: Error): void {
    this.#ended = true;
    this.#error = error;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) yield item;
      else if (this.#error) throw this.#error;
      else if (this.#ended) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
}
