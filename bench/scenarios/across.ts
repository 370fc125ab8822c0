/** Two sidecars of one project: published through one, delivered by the other. */
import { rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { Connection } from "../client/connection.ts";
import { percentile } from "../measure/numbers.ts";
import { cpuMicros } from "../measure/process-figures.ts";
import { ackRequest, deliveryIds, openRequest, paths, publishRequest } from "../messages.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import { makeDirectory, type Sidecar, startSidecar } from "../servers/sidecar.ts";

/** Events a second: so few that each finds the other sidecar waiting. */
const rate = 200;
const topic = "across";

export const acrossSqlite: Scenario = {
  name: "across-sqlite",
  about: "SQLite: from one sidecar to a stream that waits on another",
  async *run(effort) {
    const dataDirectory = await makeDirectory();
    const sidecars: Sidecar[] = [];
    try {
      for (let i = 0; i < 2; i++) sidecars.push(await startSidecar({ store: "sqlite", dataDirectory }));
      const [near, far] = sidecars;
      yield* measure(near!, near!, "the same sidecar", undefined, effort);
      yield* measure(near!, far!, "another sidecar", 20_000, effort);
    } finally {
      for (const sidecar of sidecars) await sidecar.stop();
      await rm(dataDirectory, { recursive: true, force: true });
    }
  },
};

async function* measure(
  from: Sidecar,
  to: Sidecar,
  name: string,
  p99AtMost: number | undefined,
  { sliceMs, rounds }: Effort,
): AsyncGenerator<Figure> {
  const publisher = await Connection.open(from.grpcPort);
  const subscriber = await Connection.open(to.grpcPort);
  const group = name.replaceAll(" ", "-");
  const stream = subscriber.start(paths.subscribe);
  // An event may overtake its publisher's acknowledgement, so both are measured from the moment of sending;
  // events come in the order in which they were published, one publisher to one stream.
  const sentAt: number[] = [];
  const deliveries: number[] = [];
  const acknowledgements: number[] = [];
  let opened = () => {};
  const open = new Promise<void>((resolve) => {
    opened = resolve;
  });
  stream.onMessage = (message) => {
    const ids = deliveryIds(message);
    if (!ids) return opened();
    const now = performance.now();
    for (let i = 0; i < ids.length; i++) deliveries.push((now - sentAt[deliveries.length]!) * 1000);
    stream.send(ackRequest(1n, ids.at(-1)!));
  };
  const requestBytes = publishRequest("pubsub", `${topic}-${group}`);
  stream.send(openRequest({ component: "pubsub", topic: `${topic}-${group}`, group }));
  await open;
  const cpuBefore = cpuMicros(to.pid);
  const begin = performance.now();
  const publishes: Promise<void>[] = [];
  const publish = async () => {
    const startedAt = performance.now();
    sentAt.push(startedAt);
    await publisher.call(paths.publish, requestBytes);
    acknowledgements.push((performance.now() - startedAt) * 1000);
  };
  for (let elapsed = 0; elapsed < sliceMs * rounds; elapsed = performance.now() - begin) {
    while (publishes.length < (elapsed * rate) / 1000) publishes.push(publish());
    await delay(1);
  }
  await Promise.all(publishes);
  while (deliveries.length < publishes.length) await delay(1);
  const cpu = (cpuMicros(to.pid) - cpuBefore) / publishes.length;
  publisher.close();
  subscriber.close();
  const target = p99AtMost === undefined ? undefined : { atMost: p99AtMost };
  const at = `to ${name}, ${rate}/s`;
  yield { what: `${at}: publish to delivery, p50`, value: percentile(deliveries, 0.5), unit: "us" };
  yield { what: `${at}: publish to delivery, p99`, value: percentile(deliveries, 0.99), unit: "us", target };
  yield {
    what: `${at}: publish to acknowledgement, p50`,
    value: percentile(acknowledgements, 0.5),
    unit: "us",
  };
  yield { what: `${at}: CPU an event of the delivering sidecar`, value: cpu, unit: "us" };
}
