/** A strict reader of Prometheus' text format 0.0.4: it throws at what Prometheus would refuse or misread. */

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface ParsedFamily {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly samples: Sample[];
}

/** Families by name, in the order of the text. */
export function parsePrometheusText(text: string): Map<string, ParsedFamily> {
  if (!text.endsWith("\n")) throw new Error("the last line has no line end");
  const families = new Map<string, ParsedFamily>();
  const seen = new Set<string>();
  let help: RegExpExecArray | undefined;
  let family: ParsedFamily | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    const helpLine = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/.exec(line);
    const typeLine = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)$/.exec(line);
    if (helpLine) {
      help = helpLine;
    } else if (typeLine) {
      const [, name, type] = typeLine;
      if (help?.[1] !== name) throw new Error(`TYPE without HELP in front of it: ${line}`);
      if (families.has(name!)) throw new Error(`a family twice: ${name}`);
      family = { name: name!, help: unescaped(help![2]!, ["\\", "n"]), type: type!, samples: [] };
      families.set(name!, family);
    } else {
      const sample = parseSample(line);
      const key = `${sample.name}${JSON.stringify(Object.entries(sample.labels).sort())}`;
      if (seen.has(key)) throw new Error(`a sample twice: ${line}`);
      seen.add(key);
      if (!family || !samplesOf(family).includes(sample.name)) throw new Error(`not of its family: ${line}`);
      family.samples.push(sample);
    }
  }
  for (const each of families.values()) if (each.type === "histogram") checkHistogram(each);
  return families;
}

/** The value of one sample; undefined when there is none. */
export function sampleValue(
  text: string,
  name: string,
  labels: Record<string, string> = {},
): number | undefined {
  const samples = [...parsePrometheusText(text).values()].flatMap((family) => family.samples);
  const wanted = JSON.stringify(Object.entries(labels).sort());
  return samples.find(
    (sample) => sample.name === name && JSON.stringify(Object.entries(sample.labels).sort()) === wanted,
  )?.value;
}

function samplesOf({ name, type }: ParsedFamily): string[] {
  return type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name];
}

function parseSample(line: string): Sample {
  const match = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
  if (!match) throw new Error(`not a sample: ${line}`);
  const labels: Record<string, string> = {};
  const label = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\.)*)"(,|$)/y;
  const text = match[2] ?? "";
  while (label.lastIndex < text.length) {
    const found = label.exec(text);
    if (!found) throw new Error(`labels that end nowhere: ${line}`);
    if (found[1]! in labels) throw new Error(`a label twice: ${line}`);
    labels[found[1]!] = unescaped(found[2]!, ["\\", "n", '"']);
  }
  return { name: match[1]!, labels, value: numberOf(match[3]!) };
}

function unescaped(text: string, known: readonly string[]): string {
  return text.replace(/\\(.)/g, (_all, letter: string) => {
    if (!known.includes(letter)) throw new Error(`unknown escape \\${letter}`);
    return letter === "n" ? "\n" : letter;
  });
}

function numberOf(text: string): number {
  if (text === "+Inf") return Number.POSITIVE_INFINITY;
  if (text === "-Inf") return Number.NEGATIVE_INFINITY;
  if (text === "NaN") return Number.NaN;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text)) throw new Error(`not a number: ${text}`);
  return Number(text);
}

function checkHistogram(family: ParsedFamily): void {
  const series = new Map<string, Sample[]>();
  for (const sample of family.samples) {
    const { le: _le, ...labels } = sample.labels;
    const key = JSON.stringify(labels);
    series.set(key, [...(series.get(key) ?? []), sample]);
  }
  for (const samples of series.values()) {
    const buckets = samples.filter((sample) => sample.name.endsWith("_bucket"));
    const bounds = buckets.map((bucket) => numberOf(bucket.labels["le"]!));
    const counts = buckets.map((bucket) => bucket.value);
    const ascends = (values: number[]) =>
      values.every((value, index) => index === 0 || value >= values[index - 1]!);
    if (!ascends(bounds) || !ascends(counts)) throw new Error(`${family.name}: buckets do not ascend`);
    if (bounds.at(-1) !== Number.POSITIVE_INFINITY) throw new Error(`${family.name}: no bucket +Inf`);
    const count = samples.find((sample) => sample.name.endsWith("_count"))?.value;
    if (count !== counts.at(-1)) throw new Error(`${family.name}: count is not that of the bucket +Inf`);
    if (!samples.some((sample) => sample.name.endsWith("_sum"))) throw new Error(`${family.name}: no sum`);
  }
}
