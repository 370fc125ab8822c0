/**
 * The crash test: publishers and subscribers in processes of their own, on sidecars that are killed again and
 * again, as the applications are. What was acknowledged must be delivered and settled in the end.
 *
 * It is a function over the broker under test, so that every component can be put through it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { freePorts, makeProject, Outrider, removeProject } from "../outrider.ts";
import { Application } from "./application.ts";
import { pause, type Task } from "./program.ts";
import { Random } from "./random.ts";
import { readPort, writePort } from "./sidecar-ports.ts";
import { judge, readRecords, type Verdict } from "./verdict.ts";

/** What is put to the test, and how hard. */
export interface CrashTestOptions {
  /** YAML files or directories with the component "pubsub"; none: what a sidecar has by itself. */
  readonly resources?: readonly string[];
  /** How long things are killed, in seconds. */
  readonly seconds: number;
  readonly seed: number;
  /** What else may happen, such as the end of a broker. It must be as before when `strike` resolves. */
  readonly faults?: readonly Fault[];
  /** How long the rest may take to be delivered when nothing is killed any more, in milliseconds. */
  readonly settleWithinMs?: number;
}

/** Something that goes wrong. */
export interface Fault {
  readonly name: string;
  /** How often it is chosen, in proportion to the others. */
  readonly weight: number;
  strike(random: Random): Promise<void>;
}

/** What came of it. */
export interface CrashReport extends Verdict {
  /** How often each fault struck. */
  readonly strikes: Readonly<Record<string, number>>;
  /** Processes that ended though nobody had killed them, with what they said last. Must be empty. */
  readonly fallen: readonly string[];
  /** Groups that were behind when the time was over. Must be empty. */
  readonly behind: readonly string[];
  /** From the last kill until nothing was left, in milliseconds. */
  readonly settledAfterMs: number;
}

const sidecarCount = 2;
const publisherCount = 2;
const subscriberCount = 2;
const groups = [
  { name: "ordered", ordered: true },
  { name: "free", ordered: false },
] as const;
const topic = "crash.test";
/** Between two strikes, in milliseconds: some before a sidecar is up again, most when much is under way. */
const leastPauseMs = 100;
const mostPauseMs = 1000;
/** How long a sidecar stands still, in milliseconds: well under what makes others take it for dead. */
const leastStillMs = 500;
const mostStillMs = 3000;
const lookEveryMs = 100;

/** Runs it. Every process is killed before it returns or throws. */
export async function crashTest(options: CrashTestOptions): Promise<CrashReport> {
  const directory = await makeProject();
  const stage = new Stage(directory, options);
  try {
    return await stage.run();
  } finally {
    await stage.clear();
    await removeProject(directory);
  }
}

/** A process that is started again whenever it was killed. */
interface Actor {
  start(): Promise<void>;
  kill(): Promise<void>;
}

class Stage {
  readonly #records: string;
  readonly #options: CrashTestOptions;
  readonly #random: Random;
  readonly #sidecars: Sidecar[];
  readonly #publishers: Program[];
  readonly #subscribers: Program[];
  readonly #fallen: string[] = [];

  constructor(directory: string, options: CrashTestOptions) {
    this.#records = join(directory, "records");
    this.#options = options;
    this.#random = new Random(options.seed);
    const fallen = this.#fallen;
    const resources = (options.resources ?? []).flatMap((path) => ["--resources", resolve(path)]);
    this.#sidecars = range(sidecarCount).map(
      (index) => new Sidecar(index, directory, this.#records, resources, fallen),
    );
    const programs = (name: string, count: number) =>
      range(count).map((index) => {
        const task = (life: number): Task => ({
          index,
          life,
          seed: options.seed + 1000 * life + index,
          directory: this.#records,
          sidecars: sidecarCount,
          topic,
          groups,
        });
        return new Program(name, task, fallen);
      });
    this.#publishers = programs("publisher", publisherCount);
    this.#subscribers = programs("subscriber", subscriberCount);
  }

  async run(): Promise<CrashReport> {
    await mkdir(this.#records);
    await Promise.all(this.#sidecars.map((sidecar) => sidecar.start()));
    // The groups begin with the first event: what is published before a subscriber comes is theirs too.
    await Promise.all([...this.#publishers, ...this.#subscribers].map((program) => program.start()));
    const strikes = await this.#strike();
    const struckAt = performance.now();
    await Promise.all(this.#publishers.map((publisher) => publisher.finish()));
    const behind = await this.#settled(this.#options.settleWithinMs ?? 60_000);
    const settledAfterMs = Math.round(performance.now() - struckAt);
    await Promise.all(this.#subscribers.map((subscriber) => subscriber.finish()));
    const verdict = judge(await readRecords(this.#records), groups);
    return { ...verdict, strikes, fallen: this.#fallen, behind, settledAfterMs };
  }

  /** Kills everything that is left. */
  async clear(): Promise<void> {
    await Promise.all(
      [...this.#publishers, ...this.#subscribers, ...this.#sidecars].map((actor) => actor.kill()),
    );
  }

  async #strike(): Promise<Record<string, number>> {
    const random = this.#random;
    const faults = [...this.#ownFaults(), ...(this.#options.faults ?? [])];
    const lots = faults.flatMap((fault) => Array.from({ length: fault.weight }, () => fault));
    const strikes: Record<string, number> = Object.fromEntries(faults.map(({ name }) => [name, 0]));
    const endsAt = performance.now() + this.#options.seconds * 1000;
    // Without putting back, so that each kind has struck before any has struck very often.
    let bag: Fault[] = [];
    for (;;) {
      await pause(random.between(leastPauseMs, mostPauseMs));
      if (performance.now() > endsAt || this.#fallen.length > 0) return strikes;
      if (bag.length === 0) bag = [...lots];
      const [fault] = bag.splice(random.below(bag.length), 1) as [Fault];
      strikes[fault.name]! += 1;
      await fault.strike(random);
    }
  }

  #ownFaults(): Fault[] {
    const again = async (actor: Actor) => {
      await actor.kill();
      await actor.start();
    };
    const one = <T>(all: readonly T[], random: Random) => all[random.below(all.length)]!;
    return [
      { name: "sidecar killed", weight: 5, strike: (random) => again(one(this.#sidecars, random)) },
      {
        name: "sidecar killed while it starts",
        weight: 2,
        strike: async (random) => {
          const sidecar = one(this.#sidecars, random);
          await sidecar.kill();
          const started = sidecar.start();
          await pause(random.below(400));
          await sidecar.kill();
          await started;
          await sidecar.start();
        },
      },
      {
        name: "all sidecars killed",
        weight: 2,
        strike: async () => {
          await Promise.all(this.#sidecars.map((sidecar) => sidecar.kill()));
          await Promise.all(this.#sidecars.map((sidecar) => sidecar.start()));
        },
      },
      {
        name: "sidecar stopped for a while",
        weight: 2,
        strike: async (random) => {
          const sidecar = one(this.#sidecars, random);
          sidecar.signal("SIGSTOP");
          await pause(random.between(leastStillMs, mostStillMs));
          sidecar.signal("SIGCONT");
        },
      },
      { name: "publisher killed", weight: 2, strike: (random) => again(one(this.#publishers, random)) },
      { name: "subscriber killed", weight: 3, strike: (random) => again(one(this.#subscribers, random)) },
    ];
  }

  /** Waits until nothing is left of any group. Returns what is left when the time is over. */
  async #settled(withinMs: number): Promise<string[]> {
    const endsAt = performance.now() + withinMs;
    for (;;) {
      const left = await this.#left();
      if (left.length === 0 || performance.now() > endsAt) return left;
      await pause(lookEveryMs);
    }
  }

  async #left(): Promise<string[]> {
    const told = await Promise.all(
      range(sidecarCount).map(async (index) => {
        using app = new Application(readPort(this.#records, index));
        return (await app.runtime.getMetadata({}, { timeoutMs: 5000 })).subscriptions;
      }),
    );
    return groups.flatMap(({ name }) => {
      const group = told.flat().filter((subscription) => subscription.group === name);
      if (group.length === 0) return [`${name}: nobody reads`];
      return group
        .filter(({ lag, inFlight }) => lag !== 0n || inFlight !== 0)
        .map(({ lag, inFlight }) => `${name}: lag ${lag}, in flight ${inFlight}`);
    });
  }
}

/** A sidecar, over all its lives. */
class Sidecar implements Actor {
  readonly #index: number;
  readonly #cwd: string;
  readonly #records: string;
  readonly #words: readonly string[];
  readonly #fallen: string[];
  #process: Outrider | undefined;

  constructor(index: number, cwd: string, records: string, resources: readonly string[], fallen: string[]) {
    this.#index = index;
    this.#cwd = cwd;
    this.#records = records;
    this.#words = ["run", ...freePorts, "--app-id", "crash", "--log-level", "warn", ...resources];
    this.#fallen = fallen;
  }

  /** Resolves when it serves, or was killed before. */
  async start(): Promise<void> {
    const process = new Outrider(this.#words, { cwd: this.#cwd });
    this.#process = process;
    void process.ended.then(({ code }) => {
      // Killed, it has no code.
      if (code !== null) this.#fallen.push(`sidecar ${this.#index} ended with ${code}: ${process.stderr}`);
    });
    const said = await process.said(/^ {2}grpc +\S+:(\d+)/m).catch(() => undefined);
    if (said) writePort(this.#records, this.#index, Number(said[1]));
  }

  async kill(): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }
}

/** A publisher or subscriber, over all its lives. */
class Program implements Actor {
  readonly #name: string;
  readonly #task: (life: number) => Task;
  readonly #fallen: string[];
  #life = 0;
  #process: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();

  constructor(name: string, task: (life: number) => Task, fallen: string[]) {
    this.#name = name;
    this.#task = task;
    this.#fallen = fallen;
  }

  async start(): Promise<void> {
    this.#life += 1;
    const task = this.#task(this.#life);
    const program = resolve(import.meta.dirname, `${this.#name}.ts`);
    const child = spawn(process.execPath, [program, JSON.stringify(task)], {
      stdio: ["pipe", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-2000);
    });
    child.stdin.on("error", () => {});
    child.once("close", (code) => {
      if (code) this.#fallen.push(`${this.#name} ${task.index} ended with ${code}: ${stderr}`);
    });
    this.#process = child;
    this.#ended = once(child, "close");
    await once(child, "spawn");
  }

  /** Has it come to an end by itself. */
  async finish(): Promise<void> {
    this.#process?.stdin?.end();
    await this.#ended;
  }

  async kill(): Promise<void> {
    this.#process?.kill("SIGKILL");
    await this.#ended;
  }
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** A report as a few lines for people. */
export function describeReport(report: CrashReport): string {
  const strikes = Object.entries(report.strikes).map(([name, count]) => `${count} x ${name}`);
  return [
    strikes.join(", "),
    `${report.acknowledged} events acknowledged, ${report.lost.length} lost, ${report.disordered.length} out of order, ` +
      `${report.overtaken.length} overtaken; ${report.duplicates} settled more than once, ` +
      `${report.unacknowledged} delivered without having been acknowledged, highest attempt ${report.highestAttempt}; ` +
      `all settled ${report.settledAfterMs} ms after the last`,
  ].join("\n");
}
