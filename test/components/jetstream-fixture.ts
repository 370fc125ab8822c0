/** The short forms that the tests of pubsub.jetstream's failures are written in. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { type JetStreamManager, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { expect } from "vitest";
import type { DriverSubscription, PubSubDriver, Received } from "../../src/blocks/pubsub/driver.ts";
import { outgoing } from "../conformance/pubsub/fixture.ts";
import { openPubSub } from "./jetstream-server.ts";

export const within = (ms: number) => ({ signal: AbortSignal.timeout(ms) });

const run = `${process.pid}-${Date.now().toString(36)}`;

/** What the tests of a file open, and names that nobody has had before. */
export class Opened {
  readonly #closers: (() => Promise<unknown>)[] = [];
  #count = 0;

  fresh(name: string): string {
    this.#count += 1;
    return `${name}-${run}-${this.#count}`;
  }

  /** What `closeAll` does, the last first. */
  closing(close: () => Promise<unknown>): void {
    this.#closers.push(close);
  }

  async closeAll(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
  }

  async driver(natsURL: string, metadata: Record<string, string> = {}): Promise<PubSubDriver> {
    const driver = await openPubSub({ natsURL, ...metadata });
    this.closing(() => driver.close());
    return driver;
  }

  /** A plain client. */
  async connection(natsURL: string): Promise<NatsConnection> {
    const connection = await connect({ servers: natsURL });
    this.closing(() => connection.close());
    return connection;
  }

  /** JetStream as a plain client has it. */
  async manager(natsURL: string): Promise<JetStreamManager> {
    return jetstreamManager(await this.connection(natsURL));
  }

  /** A sidecar in another process that takes events and holds them. */
  holder(natsURL: string, topic: string, group: string, options: HolderOptions): Holder {
    const holder = new Holder(natsURL, topic, group, options);
    this.closing(() => holder.signal("SIGKILL"));
    return holder;
  }
}

export const spec = (topic: string, group: string, ordered = false) =>
  ({ topic, group, start: { at: "earliest" }, ordered, raw: false }) as const;

/** Receives so many events, at least. */
export async function take(
  subscription: DriverSubscription,
  events: number,
  withinMs = 20_000,
): Promise<Received[]> {
  const taken: Received[] = [];
  const call = within(withinMs);
  while (taken.length < events && !call.signal.aborted) {
    taken.push(...(await subscription.receive(events - taken.length, call)));
  }
  expect(taken).toHaveLength(events);
  return taken;
}

export async function done(subscription: DriverSubscription, received: readonly Received[]): Promise<void> {
  await subscription.settle(
    received.map(({ receipt }) => ({ receipt, kind: "done" })),
    within(10_000),
  );
}

export async function publish(
  driver: PubSubDriver,
  topic: string,
  texts: readonly string[],
  key = "",
): Promise<void> {
  const results = await driver.publish(
    topic,
    texts.map((text) => outgoing(text, { key })),
    within(10_000),
  );
  for (const result of results) if (result instanceof Error) throw result;
}

interface HolderOptions {
  readonly ordered: boolean;
  readonly takes: number;
  /** When it settles what it holds, in milliseconds after it came. Default: never. */
  readonly settleAfterMs?: number;
}

/** A sidecar in another process. */
export class Holder {
  readonly #child: ChildProcess;
  readonly received: string[] = [];
  /** What came of settling: "settled", or an error. */
  readonly settled: string[] = [];

  constructor(
    natsURL: string,
    topic: string,
    group: string,
    { ordered, takes, settleAfterMs }: HolderOptions,
  ) {
    const child = new URL("jetstream-child.ts", import.meta.url).pathname;
    const words = [child, natsURL, topic, group, ordered ? "ordered" : "", takes, settleAfterMs ?? ""];
    this.#child = spawn(process.execPath, words.map(String), { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      const said = JSON.parse(line) as { received?: string; settled?: string };
      if (said.received !== undefined) this.received.push(said.received);
      if (said.settled !== undefined) this.settled.push(said.settled);
    });
  }

  async holds(...texts: string[]): Promise<void> {
    await expect.poll(() => this.received, { timeout: 20_000 }).toEqual(texts);
  }

  async signal(name: NodeJS.Signals): Promise<void> {
    this.#child.kill(name);
    if (name !== "SIGKILL") return;
    if (this.#child.exitCode === null && this.#child.signalCode === null)
      await new Promise((resolve) => this.#child.once("exit", resolve));
  }
}
