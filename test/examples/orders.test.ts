/** The two applications of examples/orders, as their README starts them. */
import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isRunning, processTree, signalAll } from "../servers/process-tree.ts";
import { until } from "../servers/until.ts";
import { Checkout, Shell, shell } from "./checkout.ts";
import { listeningPorts } from "./listening-ports.ts";

/** What anything here may take, in milliseconds, on a machine with few and busy cores. */
const limitMs = 60_000;
const firstStock = 1_000_000;
const names = ["shop sidecar", "warehouse sidecar", "shop", "warehouse"] as const;

describe("the example with orders", { timeout: 4 * limitMs }, () => {
  let checkout: Checkout;
  let run: Shell;

  beforeAll(async () => {
    checkout = await Checkout.make();
    const [install, start] = (await commands())[0]!.split(" && ");
    expect([install, start]).toEqual(["npm ci", "npm run example"]);
    run = new Shell(`${start} -- --every 40 --stock ${firstStock}`, checkout.directory);
    await shippedAfter(run.output.length);
  }, limitMs);
  afterAll(async () => {
    await run?.[Symbol.asyncDispose]();
    await checkout?.[Symbol.asyncDispose]();
  });

  it("has no port but those of the sidecars", ({ skip }) => {
    if (!existsSync("/proc/net/tcp")) skip("only Linux tells in /proc which process listens");
    for (const app of ["shop", "warehouse"] as const) {
      expect(listeningPorts(pidOf(`${app} sidecar`))).toHaveLength(3);
      expect(listeningPorts(pidOf(app))).toEqual([]);
    }
  });

  it("goes on by itself when any process of it is killed, or all are", async () => {
    for (const victims of [...names.map((name) => [name]), ["shop", "warehouse sidecar"] as const, names]) {
      const killed = victims.map((name) => [name, pidOf(name)] as const);
      const from = run.output.length;
      signalAll(
        killed.map(([, pid]) => pid),
        "SIGKILL",
      );
      for (const [name, pid] of killed)
        await until(() => pidOf(name) !== pid, `${name} is started again`, limitMs);
      await shippedAfter(Math.max(from, run.output.lastIndexOf("runs as process")));
    }
  });

  it("takes orders that are typed, and says what it does not understand", async () => {
    run.type("3 coffee");
    const { 1: id } = await said(/shop +\| placed (\S+): 3 coffee/);
    await said(new RegExp(`shop +\\| shipped ${id} by bicycle`));
    run.type("0 coffee please");
    await said(/shop +\| say what you want/);
  });

  it("is looked at by the commands of its README", async () => {
    const here = checkout.example("orders");
    const [, list, stock, metadata, refused, deadLetters, ...others] = await commands();
    expect(others).toEqual([]);
    expect(await shell(list!, here)).toMatch(/^order\/\S+/);
    expect(Number(await shell(stock!, here))).toBeLessThan(firstStock);
    expect(await shell(metadata!, here)).toContain("order.placed");
    await shell(refused!, here);
    await said(/warehouse +\| refused: .*this is no order/);
    expect(await shell(deadLetters!, here)).toContain("this is no order");
  });

  it("ends with Ctrl-C, and ships in its next life what was left: each order once", async () => {
    signalAll([pidOf("warehouse")], "SIGKILL");
    await said(/warehouse +\| ended with SIGKILL/g);
    const started = processTree(run.pid);
    run.interrupt();
    await run.ended;
    await until(() => !started.some(isRunning), "all of it has ended", limitMs);
    const placed = [...run.output.matchAll(/shop +\| placed (\S+):/g)].map(([, id]) => id!);

    await using next = new Shell(
      `npx node examples/orders/start.ts --every 0 --stock ${firstStock}`,
      checkout.directory,
    );
    run = next;
    await said(/start +\|/);
    const here = checkout.example("orders");
    const orders = await until(
      async () => {
        const all = await list("shop", "order/");
        return all.every(({ status }) => status === "shipped") ? all : undefined;
      },
      "every order is shipped",
      limitMs,
    );
    // There may be more: a killed shop did not come to tell of its last.
    expect(orders.map(({ id }) => id)).toEqual(expect.arrayContaining(placed));
    for (const item of ["tea", "coffee"]) {
      const left = await shell(`npx node ../../src/main.ts state get stock/${item} --app-id warehouse`, here);
      const ordered = orders.filter((order) => order.item === item);
      expect(ordered.length).toBeGreaterThan(0);
      expect(Number(left)).toBe(firstStock - ordered.reduce((sum, { quantity }) => sum + quantity, 0));
    }
    run.interrupt();
    await run.ended;
  });

  /** The commands of the README, without the remarks behind them. */
  async function commands(): Promise<string[]> {
    return (await checkout.commands("orders")).map((line) => line.replace(/ +# .*/, ""));
  }

  function said(what: RegExp): Promise<RegExpExecArray> {
    return until(() => what.exec(run.output), `${what} in ${run.output.slice(-2000)}`, limitMs);
  }

  function shippedAfter(position: number): Promise<boolean> {
    const shipped = () => /shop +\| shipped \S+ by/.test(run.output.slice(position));
    return until(shipped, "an order is shipped", limitMs);
  }

  function pidOf(name: string): number {
    const last = [...run.output.matchAll(new RegExp(`^${name} +\\| runs as process (\\d+)$`, "gm"))].at(-1);
    return Number(last?.[1] ?? 0);
  }

  async function list(app: string, prefix: string): Promise<Shipped[]> {
    const command = `npx node ../../src/main.ts state list ${prefix} --values --json --app-id ${app}`;
    const lines = (await shell(command, checkout.example("orders"))).trim().split("\n");
    return lines.map((line) => JSON.parse(JSON.parse(line).value) as Shipped);
  }
});

interface Shipped {
  readonly id: string;
  readonly item: string;
  readonly quantity: number;
  readonly status: string;
}
