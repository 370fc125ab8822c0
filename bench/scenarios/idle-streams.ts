/** A thousand subscribe streams on which nothing happens. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Connection } from "../client/connection.ts";
import { cpuMicros, memoryMb } from "../measure/process-figures.ts";
import { openRequest, paths } from "../messages.ts";
import type { Figure, Scenario } from "../scenario.ts";
import { root } from "../servers/child.ts";
import { type Sidecar, type Store, startSidecar } from "../servers/sidecar.ts";

const streams = 1000;
/** How long the streams are left alone before the sidecar is looked at, in milliseconds: it gives memory back half a minute after it was busy. */
const settleMs = 40_000;
/** How long its processor time is counted then, in milliseconds. */
const countMs = 5000;

export const idleStreams: Scenario = {
  name: "idle-streams",
  about: "memory of 1,000 idle subscribe streams, a topic each: over one connection, and over many",
  async *run() {
    yield* open("memory", 1, "in memory, over one connection");
    yield* open("memory", 100, "in memory, over 100 connections");
    yield* open("sqlite", 1, "SQLite, over one connection");
  },
};

async function* open(store: Store, connectionCount: number, name: string): AsyncGenerator<Figure> {
  const bundled = existsSync(join(root, "dist/outrider.js"));
  const sidecar = await startSidecar({ store, bundled });
  const connections: Connection[] = [];
  try {
    const before = memoryMb(sidecar.pid).now;
    for (let i = 0; i < connectionCount; i++) connections.push(await Connection.open(sidecar.grpcPort));
    await Promise.all(
      Array.from({ length: streams }, (_, number) => openOne(connections[number % connectionCount]!, number)),
    );
    await delay(settleMs);
    const { now, peak } = memoryMb(sidecar.pid);
    yield { what: `${name}: resident`, value: now, unit: "MB", target: { atMost: 150 } };
    yield { what: `${name}: at its peak`, value: peak, unit: "MB" };
    yield { what: `${name}: a stream`, value: ((now - before) * 1024) / streams, unit: "KB" };
    yield { what: `${name}: CPU a second`, value: await idleCpuMs(sidecar), unit: "ms" };
  } finally {
    for (const connection of connections) connection.close();
    await sidecar.stop();
  }
}

function openOne(connection: Connection, number: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const call = connection.start(paths.subscribe);
    call.onMessage = () => resolve();
    call.onEnd = () => reject(new Error(`stream ${number} has ended`));
    call.send(openRequest({ component: "pubsub", topic: `idle-${number}` }));
  });
}

async function idleCpuMs(sidecar: Sidecar): Promise<number> {
  const before = cpuMicros(sidecar.pid);
  await delay(countMs);
  return (cpuMicros(sidecar.pid) - before) / countMs;
}
