/**
 * The crash test on real brokers, which are killed, frozen and cut off as well. Each file chaos-*.test.ts is one of them.
 * Longer, and again as it was:
 *
 *   OUTRIDER_CRASH_SECONDS=600 OUTRIDER_TEST_SEED=42 npx vitest run test/end-to-end/chaos-kafka.test.ts
 *
 * With OUTRIDER_CRASH_KEEP=1 what every process wrote is kept, and it is said where.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { describeWith, type Need } from "../servers/require.ts";
import { serverFolder } from "../servers/run-folder.ts";
import type { Server } from "../servers/server.ts";
import { openProxy, type Proxy as Way } from "../servers/toxiproxy.ts";
import { brokerFaults } from "./broker-faults.ts";
import { type CrashReport, crashTest, describeReport, topic } from "./crash-test.ts";

/** A broker that is put through it. */
export interface ChaosBroker {
  readonly needs: readonly Need[];
  /** The component's type, such as "pubsub.kafka". */
  readonly type: string;
  /** A store on the same server, for the outbox. Default: the embedded one. */
  readonly state?: {
    readonly type: string;
    readonly version?: string;
    metadata(port: number): Readonly<Record<string, string>>;
  };
  /** A server of this test's own, whose data survive its end. */
  start(): Promise<Server>;
  /** The fields of the component for whoever reaches the server at a port of 127.0.0.1. */
  metadata(port: number): Readonly<Record<string, string>>;
  /** Ports that lead to the server for each way: where it is, and where the proxy has to be if the server has a say. */
  ways?(server: Server): readonly { readonly upstream: number; readonly listen?: number }[];
  /** What the server knows of the groups, printed when something is left. */
  explain?(server: Server): Promise<string>;
  /**
   * The broker keeps one position for a partition instead of a mark for each event, or forgets its last marks when it is killed: then
   * what was settled is delivered again to another member, in order, also after a later one of its key was handled.
   */
  readonly rewinds?: boolean;
}

const seconds = Number(process.env["OUTRIDER_CRASH_SECONDS"] ?? 12);
const seed = Number(process.env["OUTRIDER_TEST_SEED"] ?? Date.now() % 2 ** 31);

/** Defines the test of one broker. */
export function chaosTest(broker: ChaosBroker): void {
  describeWith([...broker.needs, "toxiproxy"], `${broker.type} while everything ends`, () => {
    it(
      "loses nothing that was acknowledged, and keeps the order of each key",
      async () => {
        process.stdout.write(
          `${broker.type}: OUTRIDER_TEST_SEED=${seed} OUTRIDER_CRASH_SECONDS=${seconds}\n`,
        );
        await using server = await broker.start();
        const ways = broker.ways?.(server) ?? [{ upstream: server.port }, { upstream: server.port }];
        await using proxies = new AsyncDisposableStack();
        const opened: Way[] = [];
        for (const { upstream, listen } of ways) opened.push(proxies.use(await openProxy(upstream, listen)));
        const folder = serverFolder("chaos");
        // The guest beyond the proxies has nothing between it and the broker.
        const files = await Promise.all(
          [...opened, server].map(async ({ port }, index) => {
            const path = join(folder, `pubsub-${index}.yaml`);
            await writeFile(
              path,
              yamlOf("pubsub", broker.type, "v1", broker.metadata(port)) + stateYaml(broker.state, port),
            );
            return path;
          }),
        );
        const faults = brokerFaults(server, opened);
        const report = await crashTest({
          seconds,
          seed,
          faults,
          explain: async () => (await broker.explain?.(server)) ?? "",
          resources: (sidecar) => files[Math.min(sidecar, files.length - 1)]!,
          keep: process.env["OUTRIDER_CRASH_KEEP"] === "1",
        });
        process.stdout.write(`${broker.type}: ${describeReport(report)}\n`);
        expectNothingLost(report, { rewinds: broker.rewinds ?? false });
        expect(report.acknowledged).toBeGreaterThan(seconds * 20);
        expect(report.committed).toBeGreaterThan(seconds);
      },
      seconds * 10_000 + 180_000,
    );
  });
}

/** Sees to it that a report has nothing in it that must not be. */
export function expectNothingLost(report: CrashReport, { rewinds }: { readonly rewinds: boolean }): void {
  const { fallen, behind, lost, disordered, overtaken, phantoms, unpublished } = report;
  const found = {
    fallen,
    behind,
    lost,
    disordered,
    overtaken: rewinds ? [] : overtaken,
    phantoms,
    unpublished,
  };
  const told = Object.entries(found).map(([name, all]) => [name, some(all)] as const);
  expect(Object.fromEntries(told)).toEqual(Object.fromEntries(told.map(([name]) => [name, []])));
}

/** A few of many, for people to read. */
function some(all: readonly string[]): readonly string[] {
  return all.length > 20 ? [...all.slice(0, 20), `and ${all.length - 20} more`] : all;
}

/** A store whose outbox publishes to the topic of the test. */
export function stateYaml(state: ChaosBroker["state"] | undefined, port: number): string {
  const { type = "state.sqlite", version = "v1" } = state ?? {};
  const outbox = { outboxPublishPubsub: "pubsub", outboxPublishTopic: topic };
  return yamlOf("state", type, version, { ...state?.metadata(port), ...outbox });
}

/** A Component. */
export function yamlOf(
  name: string,
  type: string,
  version: string,
  metadata: Readonly<Record<string, string>>,
): string {
  const fields = Object.entries(metadata).map(
    ([field, value]) => `    - name: ${field}\n      value: ${JSON.stringify(value)}\n`,
  );
  return `apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: ${name}
spec:
  type: ${type}
  version: ${version}
  metadata:
${fields.join("")}---
`;
}
