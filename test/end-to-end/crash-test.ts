/**
 * The crash test: publishers and subscribers in processes of their own, on sidecars that are killed again and
 * again, as the applications are. What was acknowledged must be delivered and settled in the end.
 *
 * It is a function over the broker under test, so that every component can be put through it.
 */
import { mkdir, readdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { built } from "../built.ts";
import { makeProject, removeProject } from "../outrider.ts";
import { Application } from "./application.ts";
import { type Actor, Program, Sidecar } from "./crash-actors.ts";
import { judgeOutbox, type OutboxVerdict } from "./outbox-verdict.ts";
import { pause, type Task } from "./program.ts";
import { Random } from "./random.ts";
import { readPort } from "./sidecar-ports.ts";
import { judge, readRecords, type Verdict } from "./verdict.ts";

/** What is put to the test, and how hard. */
export interface CrashTestOptions {
  /**
   * A YAML file for each sidecar, by its number: with a state component whose outbox publishes to the topic `topic` of the component
   * "pubsub", and that component, if it is not to be what a sidecar has by itself.
   */
  readonly resources: (sidecar: number) => string;
  /** How long things are killed, in seconds. */
  readonly seconds: number;
  readonly seed: number;
  /** What else may happen, such as the end of a broker: beside what happens to the sidecars and applications, at the same time. */
  readonly faults?: readonly Fault[];
  /** Called when something is left; what it answers is printed. */
  readonly explain?: () => Promise<string>;
  /** Keeps what every process wrote, and says where. */
  readonly keep?: boolean;
}

/** Something that goes wrong. */
export interface Fault {
  readonly name: string;
  /** How often it is chosen, in proportion to the others. */
  readonly weight: number;
  /** Resolves when all is as before. */
  strike(random: Random): Promise<void>;
}

/** What came of it. */
export interface CrashReport extends Verdict, OutboxVerdict {
  /** How often each fault struck. */
  readonly strikes: Readonly<Record<string, number>>;
  /** Processes that ended though nobody had killed them, with what they said last. Must be empty. */
  readonly fallen: readonly string[];
  /** Groups that were behind when the time was over. Must be empty. */
  readonly behind: readonly string[];
  /** From the last kill until nothing was left, in milliseconds. */
  readonly settledAfterMs: number;
  /** Each strike, and when. */
  readonly timeline: readonly string[];
}

const sidecarCount = 2;
const publisherCount = 2;
const subscriberCount = 2;
const groups = [
  { name: "ordered", ordered: true },
  { name: "free", ordered: false },
] as const;
export const topic = "crash.test";
/** Between two strikes, in milliseconds: some before a sidecar is up again, most when much is under way. */
const leastPauseMs = 100;
const mostPauseMs = 1000;
/** Between two faults of other kinds, in milliseconds: in between there is work to do. */
const leastOtherPauseMs = 500;
const mostOtherPauseMs = 2500;
/** How long a guest stays, in milliseconds. */
const leastGuestMs = 500;
const mostGuestMs = 3000;
/** How long a sidecar stands still, in milliseconds: under what makes others take it for dead, but for ordered groups on JetStream. */
const leastStillMs = 500;
const mostStillMs = 3000;
const lookEveryMs = 100;
/** What publishers have written down, about, when they have had a hundred events acknowledged for each second of the test. */
const leastBytesASecond = 2000;
/** How many times as long it may take until they have. */
const mostExtensions = 4;
/** How long what is left may stay as much as it was, when nothing is killed any more, in milliseconds. */
const patienceMs = 45_000;

/** Runs it. Every process is killed before it returns or throws. */
export async function crashTest(options: CrashTestOptions): Promise<CrashReport> {
  const bundle = join(await built(), "outrider.js");
  const directory = await makeProject();
  const stage = new Stage(bundle, directory, options);
  try {
    return await stage.run();
  } finally {
    await stage.clear();
    if (options.keep) process.stdout.write(`kept: ${directory}\n`);
    else await removeProject(directory);
  }
}

class Stage {
  readonly #records: string;
  readonly #options: CrashTestOptions;
  readonly #sidecars: Sidecar[];
  readonly #publishers: Program[];
  readonly #subscribers: Program[];
  /** A sidecar with a subscriber of its own, which comes and goes. */
  readonly #guest: { readonly sidecar: Sidecar; readonly subscriber: Program };
  readonly #fallen: string[] = [];
  readonly #timeline: string[] = [];

  constructor(bundle: string, directory: string, options: CrashTestOptions) {
    this.#records = join(directory, "records");
    this.#options = options;
    const fallen = this.#fallen;
    const sidecar = (index: number) => {
      const resources = ["--resources", resolve(options.resources(index))];
      return new Sidecar(bundle, index, directory, this.#records, resources, fallen);
    };
    const program = (name: string, index: number, sidecars: readonly number[]) => {
      const task = (life: number): Task => ({
        index,
        life,
        seed: options.seed + 1000 * life + index,
        directory: this.#records,
        sidecars,
        topic,
        groups,
      });
      return new Program(name, task, fallen);
    };
    const residents = range(sidecarCount);
    this.#sidecars = residents.map(sidecar);
    this.#publishers = [
      ...range(publisherCount).map((index) => program("publisher", index, residents)),
      program("transactor", publisherCount, residents),
    ];
    this.#subscribers = range(subscriberCount).map((index) => program("subscriber", index, residents));
    this.#guest = {
      sidecar: sidecar(sidecarCount),
      subscriber: program("subscriber", subscriberCount, [sidecarCount]),
    };
  }

  async run(): Promise<CrashReport> {
    await mkdir(this.#records);
    await Promise.all(this.#sidecars.map((sidecar) => sidecar.start()));
    await Promise.all(this.#subscribers.map((program) => program.start()));
    // A group that comes when another has settled events already does not get them: they may be removed.
    const missing = await this.#settled();
    if (missing.length > 0) throw new Error(`the groups could not begin: ${missing.join("\n")}`);
    await Promise.all(this.#publishers.map((program) => program.start()));
    const strikes = await this.#strikeAll();
    const struckAt = performance.now();
    await Promise.all(this.#publishers.map((publisher) => publisher.finish()));
    this.#expectNobodyFallen();
    const [outbox, behind] = await this.#published();
    if (behind.length + outbox.unpublished.length > 0) {
      process.stdout.write(`${behind.join("\n")}\n${(await this.#options.explain?.()) ?? ""}\n`);
    }
    const settledAfterMs = Math.round(performance.now() - struckAt);
    await Promise.all(this.#subscribers.map((subscriber) => subscriber.finish()));
    const verdict = judge(await readRecords(this.#records), groups);
    const [fallen, timeline] = [this.#fallen, this.#timeline];
    return { ...verdict, ...outbox, strikes, fallen, behind, settledAfterMs, timeline };
  }

  /** Kills everything that is left. */
  async clear(): Promise<void> {
    await Promise.all(
      [
        ...this.#publishers,
        ...this.#subscribers,
        ...this.#sidecars,
        this.#guest.subscriber,
        this.#guest.sidecar,
      ].map((actor) => actor.kill()),
    );
  }

  /** Both kinds of faults at once, so that a broker also ends while a sidecar starts. */
  async #strikeAll(): Promise<Record<string, number>> {
    const { seed, faults = [] } = this.#options;
    const [own, others] = await Promise.all([
      this.#strike(this.#ownFaults(), new Random(seed), leastPauseMs, mostPauseMs),
      this.#strike(faults, new Random(seed + 1), leastOtherPauseMs, mostOtherPauseMs),
    ]);
    return { ...own, ...others };
  }

  async #strike(
    faults: readonly Fault[],
    random: Random,
    leastMs: number,
    mostMs: number,
  ): Promise<Record<string, number>> {
    const lots = faults.flatMap((fault) => Array.from({ length: fault.weight }, () => fault));
    const strikes: Record<string, number> = Object.fromEntries(faults.map(({ name }) => [name, 0]));
    const endsAt = performance.now() + this.#options.seconds * 1000;
    // Without putting back, so that each kind has struck before any has struck very often.
    let bag: Fault[] = [];
    while (faults.length > 0) {
      await pause(random.between(leastMs, mostMs));
      if (this.#fallen.length > 0) break;
      const late = performance.now() - endsAt;
      // A machine with much else to do gets more time for the same.
      if (late > mostExtensions * this.#options.seconds * 1000) break;
      if (late > 0 && (await this.#acknowledgedBytes()) > this.#options.seconds * leastBytesASecond) break;
      if (bag.length === 0) bag = [...lots];
      const [fault] = bag.splice(random.below(bag.length), 1) as [Fault];
      strikes[fault.name]! += 1;
      const from = timeNow();
      await fault.strike(random);
      this.#timeline.push(`${from}-${timeNow()} ${fault.name}`);
    }
    return strikes;
  }

  async #acknowledgedBytes(): Promise<number> {
    const names = (await readdir(this.#records)).filter((name) => name.startsWith("acknowledged-"));
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(this.#records, name))).size));
    return sizes.reduce((sum, size) => sum + size, 0);
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
      {
        name: "sidecar stopped as planned",
        weight: 2,
        strike: async (random) => {
          const sidecar = one(this.#sidecars, random);
          await sidecar.stop();
          await sidecar.start();
        },
      },
      {
        name: "guest came and went",
        weight: 2,
        strike: async (random) => {
          const { sidecar, subscriber } = this.#guest;
          await sidecar.start();
          await subscriber.start();
          await pause(random.between(leastGuestMs, mostGuestMs));
          await (random.below(2) === 0 ? sidecar.kill() : sidecar.stop());
          await subscriber.kill();
        },
      },
      {
        name: "components replaced",
        weight: 3,
        strike: (random) => replaceComponents(this.#options.resources(random.below(sidecarCount))),
      },
      { name: "publisher killed", weight: 2, strike: (random) => again(one(this.#publishers, random)) },
      { name: "subscriber killed", weight: 3, strike: (random) => again(one(this.#subscribers, random)) },
    ];
  }

  /** Waits until everything that was stored has been delivered and settled. */
  async #published(): Promise<[OutboxVerdict, behind: string[]]> {
    let least = Number.POSITIVE_INFINITY;
    let patientUntil = 0;
    for (;;) {
      const behind = await this.#settled();
      using app = new Application(readPort(this.#records, 0));
      const verdict = await judgeOutbox(app, await readRecords(this.#records), groups);
      const missing = verdict.unpublished.length;
      if (missing < least) patientUntil = performance.now() + patienceMs;
      least = Math.min(least, missing);
      if (missing === 0 || behind.length > 0 || performance.now() > patientUntil) return [verdict, behind];
      await pause(10 * lookEveryMs);
    }
  }

  /** Waits until nothing is left of any group. Returns what is left when that has not become less for too long. */
  async #settled(): Promise<string[]> {
    let least = Number.POSITIVE_INFINITY;
    let patientUntil = performance.now() + patienceMs;
    for (;;) {
      const { events, groups: behind } = await this.#left();
      this.#expectNobodyFallen();
      if (behind.length === 0) return [];
      if (events < least) {
        least = events;
        patientUntil = performance.now() + patienceMs;
      }
      if (performance.now() > patientUntil) return behind;
      await pause(lookEveryMs);
    }
  }

  /** Who has ended by itself does not come back: what is left then says nothing more. */
  #expectNobodyFallen(): void {
    if (this.#fallen.length > 0)
      throw new Error(`ended though nobody had killed it: ${this.#fallen.join("\n")}`);
  }

  /** What is left of all groups together, and which groups are behind. */
  async #left(): Promise<{ readonly events: number; readonly groups: string[] }> {
    const silent: string[] = [];
    const told = await Promise.all(
      range(sidecarCount).map(async (index) => {
        using app = new Application(readPort(this.#records, index));
        try {
          return (await app.runtime.getMetadata({}, { timeoutMs: 20_000 })).subscriptions;
        } catch (error) {
          silent.push(`sidecar ${index} does not answer: ${error}`);
          return [];
        }
      }),
    );
    if (silent.length > 0) return { events: Number.POSITIVE_INFINITY, groups: silent };
    let events = 0;
    const behind = groups.flatMap(({ name }) => {
      const group = told.flat().filter((subscription) => subscription.group === name);
      if (group.length === 0) return [`${name}: nobody reads`];
      // A broker that is slow to tell says nothing: that is not nothing.
      for (const { lag } of group) events += lag === undefined ? Number.POSITIVE_INFINITY : Number(lag);
      return group
        .filter(({ lag, inFlight }) => lag !== 0n || inFlight !== 0)
        .map(({ lag, inFlight }) => `${name}: lag ${lag}, in flight ${inFlight}`);
    });
    return { events, groups: behind };
  }
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** As the records of settlements have it. */
function timeNow(): string {
  return new Date().toISOString().slice(11, -1);
}

/** A report as a few lines for people. */
export function describeReport(report: CrashReport): string {
  const strikes = Object.entries(report.strikes).map(([name, count]) => `${count} x ${name}`);
  return [
    strikes.join(", "),
    `${report.acknowledged} events acknowledged, ${report.lost.length} lost, ${report.disordered.length} out of order, ` +
      `${report.overtaken.length} overtaken; ${report.duplicates} settled more than once, ` +
      `${report.unacknowledged} delivered without having been acknowledged, highest attempt ${report.highestAttempt}; ` +
      `of ${report.committed} writes with an outbox ${report.unpublished.length} unpublished, ${report.phantoms.length} published without a commit; ` +
      `all settled ${report.settledAfterMs} ms after the last`,
    ...(report.lost.length + report.disordered.length + report.overtaken.length > 0 ? report.timeline : []),
  ].join("\n");
}

/** Changes a setting of each component that makes no difference, while whoever reads the file runs. */
async function replaceComponents(file: string): Promise<void> {
  const text = (await readFile(file, "utf8")).replace(
    /^spec:\n(?: {2}initTimeout: (\d+)s\n)?/gm,
    (_, seconds: string | undefined) => `spec:\n  initTimeout: ${seconds === "6" ? 5 : 6}s\n`,
  );
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}
