/** From a publish stream to a subscribe stream of the same sidecar, in memory. */
import { setTimeout as delay } from "node:timers/promises";
import { Connection } from "../client/connection.ts";
import { Flow } from "../client/flow.ts";
import { Subscriber } from "../client/subscriber.ts";
import { type FlowCost, flowCost } from "../measure/flow-cost.ts";
import { percentile } from "../measure/numbers.ts";
import { aimedEchoMicros, Pace } from "../measure/pace.ts";
import { cpuMicros, memoryMb } from "../measure/process-figures.ts";
import { payload } from "../messages.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import { type Sidecar, startSidecar } from "../servers/sidecar.ts";

/** Events a second at the fixed rate. */
const fixedRate = 1000;

export const streamsMemory: Scenario = {
  name: "streams-memory",
  about: "publish stream to subscribe stream, in memory: by the hundred, and one by one",
  async *run(effort) {
    const sidecar = await startSidecar({ store: "memory" });
    const pace = await Pace.start();
    try {
      const batched = { topic: "batched", batch: 100, settleEach: false, window: 5000 };
      yield* full(sidecar, "100 a message, settled together", batched, { atMost: 8, pace }, effort);
      const single = { topic: "single", batch: 1, settleEach: true, window: 100 };
      yield* full(sidecar, "one a message, settled each", single, { atMost: 30, pace }, effort);
      yield* atRate(sidecar, effort);
      yield { what: "peak memory", value: memoryMb(sidecar.pid).peak, unit: "MB" };
    } finally {
      await pace.stop();
      await sidecar.stop();
    }
  },
};

interface Shape {
  readonly topic: string;
  readonly batch: number;
  readonly settleEach: boolean;
  readonly window: number;
}

async function withFlow(sidecar: Sidecar, shape: Shape, use: (flow: Flow) => Promise<void>): Promise<void> {
  const connections = [
    await Connection.open(sidecar.grpcPort),
    await Connection.open(sidecar.grpcPort),
  ] as const;
  const settings = { component: "pubsub", data: payload(), ...shape };
  const flow = new Flow(connections[0], new Subscriber(connections[1], settings), settings);
  try {
    await use(flow);
  } finally {
    flow.close();
    for (const connection of connections) connection.close();
  }
}

async function* full(
  sidecar: Sidecar,
  name: string,
  shape: Shape,
  { atMost, pace }: { readonly atMost: number; readonly pace: Pace },
  effort: Effort,
): AsyncGenerator<Figure> {
  let cost!: FlowCost;
  await withFlow(sidecar, shape, async (flow) => {
    cost = await flowCost(sidecar.pid, flow, pace, effort);
  });
  const { cpuMicros: value, echoMicros: yardstick, echoes, rate } = cost;
  const what = `${name}: CPU an event, publish and delivery`;
  yield { what, value, yardstick, unit: "us", target: { atMost } };
  const target = { atMost: atMost / aimedEchoMicros };
  yield { what: `${name}: CPU beside the echo's`, value: echoes, unit: "times", target };
  yield { what: `${name}: events`, value: rate, unit: "/s" };
}

async function* atRate(sidecar: Sidecar, { sliceMs, rounds }: Effort): AsyncGenerator<Figure> {
  const latencies: number[] = [];
  let cost = 0;
  await withFlow(sidecar, { topic: "rate", batch: 1, settleEach: true, window: 1 }, async (flow) => {
    await flow.run(sliceMs / 4);
    // In the order of publishes: the topic has no keys, and one stream has no competitor.
    const sentAt: number[] = [];
    let first = flow.received;
    const begin = performance.now();
    const base = flow.received;
    flow.onReceived = () => {
      for (const now = performance.now(); first < flow.received; first++) {
        latencies.push((now - sentAt[first - base]!) * 1000);
      }
    };
    const cpuBefore = cpuMicros(sidecar.pid);
    for (let elapsed = 0; elapsed < sliceMs * rounds; elapsed = performance.now() - begin) {
      while (sentAt.length < (elapsed * fixedRate) / 1000) {
        sentAt.push(performance.now());
        flow.publishOne();
      }
      await delay(1);
    }
    while (flow.received - base < sentAt.length) await delay(1);
    cost = (cpuMicros(sidecar.pid) - cpuBefore) / sentAt.length;
  });
  const at = `one a message, at ${fixedRate}/s`;
  yield { what: `${at}: CPU an event, publish and delivery`, value: cost, unit: "us" };
  yield { what: `${at}: publish to delivery, p50`, value: percentile(latencies, 0.5), unit: "us" };
  yield { what: `${at}: publish to delivery, p99`, value: percentile(latencies, 0.99), unit: "us" };
}
