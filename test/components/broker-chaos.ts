/**
 * Load on drivers of one broker while it is killed, frozen and cut off, members come and go, and drivers are replaced. All of it is in
 * this process, so that what is received is known in the order in which it is received.
 */
import type {
  DriverSubscription,
  PubSubDriver,
  Received,
  Settlement,
} from "../../src/blocks/pubsub/driver.ts";
import { outgoing, seeded, textOf } from "../conformance/pubsub/fixture.ts";
import type { Server } from "../servers/server.ts";
import { openProxy } from "../servers/toxiproxy.ts";
import { until } from "../servers/until.ts";

/** The broker under test. */
export interface Broker {
  /** A server of this test's own, whose data survive its end. */
  start(): Promise<Server>;
  /** Opens a driver on what is at a port of 127.0.0.1. */
  open(port: number): Promise<PubSubDriver>;
  /** True: it is never killed. */
  readonly spared?: boolean;
  /** True: when a member is lost, what it had settled above a position is received again. */
  readonly rewinds?: boolean;
  /** Where the proxy leads, and where it has to be, if the server has a say. */
  way?(server: Server): { readonly upstream: number; readonly listen: number };
}

/** What happened. */
export interface Outcome {
  readonly acknowledged: number;
  readonly received: number;
  readonly disturbances: readonly string[];
  /** Acknowledged events that nobody has handled, with what became of them. */
  readonly missing: readonly string[];
  /** Events that were received after a later one of their key, with what became of them. */
  readonly overtaken: readonly string[];
}

const keys = 20;
const group = "chaos";
/** Longer than any broker waits for one that has gone without a word, in milliseconds. */
const patienceMs = 90_000;
/** Events that a member holds at most. */
const mostHeld = 20;

/** Publishes, and consumes in order of keys, for `forMs` milliseconds; then lets everything be consumed. */
export async function chaos(broker: Broker, seed: number, forMs: number): Promise<Outcome> {
  const random = seeded(seed);
  await using server = await broker.start();
  const way = broker.way?.(server);
  await using proxy = await openProxy(way?.upstream ?? server.port, way?.listen);
  const ports = [server.port, proxy.port, proxy.port];
  const drivers = await Promise.all(ports.map((port) => broker.open(port)));
  const topic = `chaos-${seed}`;
  const acknowledged = new Set<string>();
  const handled = new Set<string>();
  /** By key: the last position that was received. */
  const latest = new Map<string, { readonly position: string; readonly text: string }>();
  /** By event: what became of it, and when in seconds since the beginning. */
  const histories = new Map<string, string[]>();
  const beganAt = performance.now();
  const log = (text: string, what: string) => {
    const line = `${((performance.now() - beganAt) / 1000).toFixed(2)} ${what}`;
    const history = histories.get(text);
    if (history) history.push(line);
    else histories.set(text, [line]);
  };
  const told = (text: string) => `${text}: ${histories.get(text)?.join(", ")}`;
  const disturbances: string[] = [];
  const overtaken: string[] = [];
  let received = 0;
  let publishing = true;
  let consuming = true;
  const { signal } = new AbortController();

  const publish = async (index: number) => {
    const key = `${index}`;
    for (let number = 0; publishing; ) {
      const text = `${key}:${number}`;
      try {
        const driver = drivers[index % drivers.length]!;
        const [answer] = await driver.publish(topic, [outgoing(text, { key })], { signal });
        if (answer instanceof Error) continue;
        acknowledged.add(text);
        log(text, "acknowledged");
        number += 1;
        await turn(30 * random());
      } catch {
        // The same event once more, as an application does.
        await turn(20);
      }
    }
  };

  const note = (one: Received, member: string) => {
    received += 1;
    const text = textOf(one);
    log(text, `received by ${member}, attempt ${one.attempt}`);
    const last = latest.get(one.key);
    if (last && isBefore(one.position, last.position) && !broker.rewinds)
      overtaken.push(`${told(text)}; overtaken by ${told(last.text)}`);
    else latest.set(one.key, { position: one.position, text });
  };

  const handle = async (member: DriverSubscription, open: () => boolean, { receipt, event }: Received) => {
    await turn(10 * random());
    const dice = random();
    const settlement: Settlement =
      dice < 0.1
        ? { receipt, kind: "again", delayMs: 20 * random() }
        : { receipt, kind: dice < 0.15 ? "returned" : "done" };
    if (settlement.kind === "done") handled.add(textOf({ event }));
    // Until it is heard, as the engine does.
    for (let tries = 1; open(); tries++) {
      try {
        await member.settle([settlement], { signal });
        log(textOf({ event }), settlement.kind);
        return;
      } catch {
        if (tries === 1) log(textOf({ event }), `not ${settlement.kind} at once`);
        await turn(100 * random());
      }
    }
  };

  const consume = async (index: number) => {
    for (let life = 1; consuming; life++) {
      const driver = drivers[index % drivers.length]!;
      const spec = { topic, group, start: { at: "earliest" }, ordered: true, raw: false } as const;
      const member = await driver.open(spec, { signal }).catch(() => undefined);
      if (!member) {
        await turn(50);
        continue;
      }
      const leaveAt = performance.now() + 1000 + random() * 10_000;
      const stays = () => consuming && performance.now() < leaveAt && drivers.includes(driver);
      let held = 0;
      let open = true;
      while (stays()) {
        if (held >= mostHeld) {
          await turn(5);
          continue;
        }
        const batch = await member
          .receive(mostHeld - held, { signal: AbortSignal.timeout(500) })
          .catch(() => []);
        for (const one of batch) note(one, `${index}.${life}`);
        held += batch.length;
        for (const one of batch)
          void handle(member, () => open, one).finally(() => {
            held -= 1;
          });
        if (batch.length === 0) await turn(10);
      }
      open = false;
      await member.close().catch(() => {});
    }
  };

  const somewhat = (mostMs: number) => turn(200 + random() * mostMs);
  const kinds: Record<string, () => Promise<void>> = {
    async cut() {
      await proxy.cut();
      await somewhat(1500);
      await proxy.mend();
    },
    async "answers lost"() {
      await proxy.poison({ type: "timeout", timeout: 0 }, "downstream");
      await somewhat(1500);
      await proxy.mend();
      await proxy.cut();
      await proxy.mend();
    },
    async frozen() {
      await server.freeze();
      await somewhat(2500);
      await server.thaw();
    },
    async killed() {
      await server.kill();
      await turn(random() * 1000);
      await server.restart();
    },
    async replaced() {
      const index = Math.floor(random() * drivers.length);
      const old = drivers[index]!;
      drivers[index] = await broker.open(ports[index]!);
      // Its members leave first, as the engine's do.
      await turn(1000);
      await old.close().catch(() => {});
    },
  };
  const disturb = async () => {
    const names = Object.keys(kinds).filter((name) => name !== "killed" || !broker.spared);
    while (publishing) {
      await turn(300 + random() * 1000);
      const name = names[Math.floor(random() * names.length)]!;
      const since = performance.now();
      await kinds[name]!();
      const seconds = [since, performance.now()].map((at) => ((at - beganAt) / 1000).toFixed(2));
      disturbances.push(`${name} ${seconds.join("-")}`);
    }
  };

  const publishers = Array.from({ length: keys }, (_, index) => publish(index));
  const consumers = [...ports, ...ports].map((_, index) => consume(index));
  const disturbing = disturb();
  await turn(forMs);
  publishing = false;
  await Promise.all([...publishers, disturbing]);
  const missing = () => [...acknowledged].filter((text) => !handled.has(text));
  await until(() => missing().length === 0, "everything acknowledged is handled", patienceMs).catch(() => {});
  consuming = false;
  await Promise.all(consumers);
  await Promise.all(drivers.map((driver) => driver.close().catch(() => {})));
  return { acknowledged: acknowledged.size, received, disturbances, missing: missing().map(told), overtaken };
}

/** Positions are numbers with something in between; of one topic they grow. */
function isBefore(one: string, other: string): boolean {
  const [ones, others] = [one, other].map((position) => position.split(/\D+/).map(BigInt)) as [
    bigint[],
    bigint[],
  ];
  for (const [index, number] of ones.entries()) if (number !== others[index]) return number < others[index]!;
  return false;
}

/** The pace of the load and of its disturbances; nothing is expected to be so after it. */
function turn(ms: number): Promise<void> {
  return new Promise((goOn) => {
    setTimeout(goOn, ms);
  });
}
