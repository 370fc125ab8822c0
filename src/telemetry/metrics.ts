/**
 * Numbers about the sidecar, as Prometheus reads them.
 *
 * Who measures asks for a handle once and keeps it: using a handle is an addition
 * or a short search, and allocates nothing. Labels cost where the handle is asked for.
 */
import { boundsOf, Counter, Gauge, Histogram, labelText, type Series } from "./series.ts";

export { Counter, defaultBucketsSeconds, Gauge, Histogram } from "./series.ts";

/** What the answer of a metrics server says it is. */
export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8";

/** The series of one metric, told apart by their labels. */
export interface Family<H, L extends string> {
  /**
   * The handle of a label set, made when it is new: keep it, do not ask for each use.
   * Past the family's limit, new label sets share one handle whose labels are all "other".
   */
  with(labels: Readonly<Record<L, string>>): H;
  /** Forgets a label set. A handle that is still held goes on counting, and is not shown. */
  remove(labels: Readonly<Record<L, string>>): void;
}

/** Limits of what is kept and waited for. */
export interface MetricsOptions {
  /** Label sets that one family keeps, 1 or more. Default 1,000. */
  readonly maxSeriesPerFamily?: number;
  /** What a scrape waits for those who set their gauges in it, in milliseconds. Default 2,000. */
  readonly updateTimeoutMs?: number;
}

type Kind = "counter" | "gauge" | "histogram";

/** Every metric of one sidecar. */
export class Metrics {
  readonly #counters = new Map<string, SeriesFamily<Counter>>();
  readonly #gauges = new Map<string, SeriesFamily<Gauge>>();
  readonly #histograms = new Map<string, SeriesFamily<Histogram>>();
  readonly #updates = new Set<Update>();
  readonly #maxSeries: number;
  readonly #updateTimeoutMs: number;
  readonly #dropped: Family<Counter, "family">;
  readonly #late: Counter;

  constructor(options: MetricsOptions = {}) {
    this.#maxSeries = options.maxSeriesPerFamily ?? 1000;
    this.#updateTimeoutMs = options.updateTimeoutMs ?? 2000;
    this.#dropped = this.counter(
      "outrider_metrics_dropped_series_total",
      "Requests for a new label set that were given the shared one, because the family is full.",
      ["family"],
    );
    this.#late = this.counter(
      "outrider_metrics_stale_updates_total",
      "Updates that failed or took too long in a scrape, so that it shows older values.",
      [],
    ).with({});
  }

  /** A number that only grows; its name ends in `_total`, or is one that Dapr has. */
  counter<L extends string>(name: string, help: string, labels: readonly L[]): Family<Counter, L> {
    return this.#family(this.#counters, "counter", name, help, labels, () => new Counter());
  }

  /** A number that goes up and down. */
  gauge<L extends string>(name: string, help: string, labels: readonly L[]): Family<Gauge, L> {
    return this.#family(this.#gauges, "gauge", name, help, labels, () => new Gauge());
  }

  /** A distribution of durations, in seconds; `bucketsSeconds` are upper bounds, ascending, without infinity. */
  histogram<L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    bucketsSeconds?: readonly number[],
  ): Family<Histogram, L> {
    const bounds = boundsOf(bucketsSeconds);
    return this.#family(this.#histograms, "histogram", name, help, labels, () => new Histogram(bounds));
  }

  /**
   * Calls `update` at each scrape, before the text is made, to set gauges. Scrapes do not
   * wait for it longer than the limit, and never run it twice at once. Returns a function that removes it.
   */
  onScrape(update: () => void | Promise<void>): () => void {
    const entry: Update = { run: update, running: undefined };
    this.#updates.add(entry);
    return () => this.#updates.delete(entry);
  }

  /** Everything in Prometheus text format 0.0.4: families by name, series by labels. */
  async text(): Promise<string> {
    await this.#update();
    const families = [
      ...this.#counters.values(),
      ...this.#gauges.values(),
      ...this.#histograms.values(),
    ].sort((a, b) => compare(a.name, b.name));
    const lines: string[] = [];
    for (const family of families) family.write(lines);
    return `${lines.join("\n")}\n`;
  }

  async #update(): Promise<void> {
    if (this.#updates.size === 0) return;
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<"late">((resolve) => {
      timer = setTimeout(resolve, this.#updateTimeoutMs, "late");
    });
    const outcomes = [...this.#updates].map((update) => Promise.race([runUpdate(update), timeout]));
    for (const outcome of await Promise.all(outcomes)) if (outcome !== "done") this.#late.add();
    clearTimeout(timer);
  }

  #family<H extends Series, L extends string>(
    families: Map<string, SeriesFamily<H>>,
    kind: Kind,
    name: string,
    help: string,
    labels: readonly L[],
    make: () => H,
  ): Family<H, L> {
    const known = families.get(name);
    if (known && known.labels.join() === labels.join()) return known;
    if (this.#counters.has(name) || this.#gauges.has(name) || this.#histograms.has(name)) {
      throw new Error(`metric ${name} exists with another type or other labels`);
    }
    checkNames(kind, name, labels);
    const full = () => this.#dropped.with({ family: name }).add();
    const family = new SeriesFamily(kind, name, help, labels, make, this.#maxSeries, full);
    families.set(name, family);
    return family;
  }
}

interface Update {
  readonly run: () => void | Promise<void>;
  running: Promise<"done" | "failed"> | undefined;
}

function runUpdate(update: Update): Promise<"done" | "failed"> {
  update.running ??= (async () => {
    try {
      await update.run();
      return "done";
    } catch {
      return "failed";
    } finally {
      update.running = undefined;
    }
  })();
  return update.running;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function checkNames(kind: Kind, name: string, labels: readonly string[]): void {
  if (!/^[a-z][a-z0-9_]*$/.test(name)) throw new Error(`not a metric name: "${name}"`);
  // Dapr's own names are what they are.
  if (!name.startsWith("dapr_") && (kind === "counter") !== name.endsWith("_total")) {
    throw new Error(`"${name}": counters, and only they, end in _total`);
  }
  for (const label of labels) {
    if (!/^[a-z][a-z0-9_]*$/.test(label) || label === "le")
      throw new Error(`not a label of ${name}: "${label}"`);
  }
}

class SeriesFamily<H extends Series> implements Family<H, string> {
  readonly name: string;
  readonly labels: readonly string[];
  readonly #kind: Kind;
  readonly #help: string;
  readonly #make: () => H;
  readonly #maxSeries: number;
  readonly #full: () => void;
  /** By the text of the labels, which is unique: values are escaped and in the family's order. */
  readonly #series = new Map<string, H>();

  constructor(
    kind: Kind,
    name: string,
    help: string,
    labels: readonly string[],
    make: () => H,
    maxSeries: number,
    full: () => void,
  ) {
    this.#kind = kind;
    this.name = name;
    this.#help = help;
    this.labels = [...labels];
    this.#make = make;
    this.#maxSeries = maxSeries;
    this.#full = full;
  }

  with(labels: Readonly<Record<string, string>>): H {
    const key = labelText(this.labels, labels);
    const known = this.#series.get(key);
    if (known) return known;
    return this.#series.size < this.#maxSeries ? this.#add(key) : this.#shared();
  }

  remove(labels: Readonly<Record<string, string>>): void {
    this.#series.delete(labelText(this.labels, labels));
  }

  write(lines: string[]): void {
    lines.push(`# HELP ${this.name} ${this.#help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`);
    lines.push(`# TYPE ${this.name} ${this.#kind}`);
    const sorted = [...this.#series].sort(([a], [b]) => compare(a, b));
    for (const [labels, series] of sorted) series.write(lines, this.name, labels);
  }

  #add(key: string): H {
    const made = this.#make();
    this.#series.set(key, made);
    return made;
  }

  #shared(): H {
    // The family of dropped series may be full itself; it must not count itself without end.
    if (this.name !== "outrider_metrics_dropped_series_total") this.#full();
    const key = labelText(this.labels, Object.fromEntries(this.labels.map((label) => [label, "other"])));
    return this.#series.get(key) ?? this.#add(key);
  }
}
