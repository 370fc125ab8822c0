/** The kinds of series that a metric has, and how each is written. */

/** From 50 microseconds, which is less than a call in memory takes, to a minute. */
export const defaultBucketsSeconds: readonly number[] = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
  30, 60,
];

/** What can write itself as lines of the text format. `labels` is what `labelText` made. */
export interface Series {
  write(lines: string[], name: string, labels: string): void;
}

/** A number that only grows. */
export class Counter implements Series {
  #value = 0;

  /** Adds `n`, which is 0 or more. Default 1. */
  add(n = 1): void {
    this.#value += n;
  }

  write(lines: string[], name: string, labels: string): void {
    lines.push(line(name, labels, this.#value));
  }
}

/** A number that goes up and down. */
export class Gauge implements Series {
  #value = 0;

  set(v: number): void {
    this.#value = v;
  }

  add(v: number): void {
    this.#value += v;
  }

  write(lines: string[], name: string, labels: string): void {
    lines.push(line(name, labels, this.#value));
  }
}

/** How many durations fell below each bound, and their sum. */
export class Histogram implements Series {
  readonly #bounds: Float64Array;
  /** One more than bounds: the last is for what is above them all. */
  readonly #counts: Float64Array;
  #sum = 0;

  /** `bounds` comes from `boundsOf`. */
  constructor(bounds: Float64Array) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** Counts one duration. What is not a number is passed over: it would spoil the sum for ever. */
  observe(seconds: number): void {
    if (Number.isNaN(seconds)) return;
    const bounds = this.#bounds;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (seconds <= bounds[middle]!) high = middle;
      else low = middle + 1;
    }
    this.#counts[low]! += 1;
    this.#sum += seconds;
  }

  write(lines: string[], name: string, labels: string): void {
    let total = 0;
    for (const [index, count] of this.#counts.entries()) {
      total += count;
      const bound = `le="${numberText(this.#bounds[index] ?? Number.POSITIVE_INFINITY)}"`;
      lines.push(line(`${name}_bucket`, labels === "" ? bound : `${labels},${bound}`, total));
    }
    lines.push(line(`${name}_sum`, labels, this.#sum), line(`${name}_count`, labels, total));
  }
}

/** Checks the bounds of a histogram. Throws an Error when they do not ascend or are not finite. */
export function boundsOf(bucketsSeconds: readonly number[] = defaultBucketsSeconds): Float64Array {
  const ascending = bucketsSeconds.every(
    (bound, index) => Number.isFinite(bound) && (index === 0 || bound > bucketsSeconds[index - 1]!),
  );
  if (!ascending) throw new Error(`buckets must be finite and ascend: ${bucketsSeconds.join(", ")}`);
  return Float64Array.from(bucketsSeconds);
}

/** Labels as they stand between the braces, in the order of `names`; "" when there are none. */
export function labelText(names: readonly string[], labels: Readonly<Record<string, string>>): string {
  let text = "";
  for (const name of names) {
    const value = labels[name];
    if (value === undefined) throw new Error(`label ${name} is missing`);
    text += `${text === "" ? "" : ","}${name}="${escapeLabel(value)}"`;
  }
  return text;
}

function escapeLabel(value: string): string {
  if (!/[\\"\n]/.test(value)) return value;
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function line(name: string, labels: string, value: number): string {
  return labels === "" ? `${name} ${numberText(value)}` : `${name}{${labels}} ${numberText(value)}`;
}

function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  return value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value);
}
