import { describe, expect, it } from "vitest";
import { defaultBucketsSeconds, Metrics } from "../../src/telemetry/metrics.ts";
import { processMetrics } from "../../src/telemetry/process-metrics.ts";
import { rpcMetrics } from "../../src/telemetry/rpc-metrics.ts";
import { parsePrometheusText, sampleValue } from "./prometheus-text.ts";

describe("metrics", () => {
  it("come as text that a strict reader takes, whatever is in labels and help", async () => {
    const metrics = new Metrics();
    const nasty = 'a "quoted" \\ back\nline {brace}, "x="';
    metrics
      .counter("outrider_events_total", "Back\\slash and\nline.", ["topic"])
      .with({ topic: nasty })
      .add(3);
    metrics.gauge("outrider_level", "A level.", []).with({}).set(-1.5);
    metrics.histogram("outrider_wait_seconds", "A wait.", ["topic"]).with({ topic: nasty }).observe(0.2);
    const families = parsePrometheusText(await metrics.text());
    const events = families.get("outrider_events_total");
    expect(events?.help).toBe("Back\\slash and\nline.");
    expect(events?.samples).toEqual([{ name: "outrider_events_total", labels: { topic: nasty }, value: 3 }]);
    expect(families.get("outrider_level")?.samples[0]?.value).toBe(-1.5);
  });

  it("stand in the same order however they were made", async () => {
    const text = async (order: readonly string[]) => {
      const metrics = new Metrics();
      for (const name of order) {
        for (const topic of order) metrics.gauge(`outrider_${name}`, "", ["topic"]).with({ topic }).set(1);
      }
      return metrics.text();
    };
    expect(await text(["c", "a", "b"])).toBe(await text(["b", "c", "a"]));
  });

  it("put a duration into every bucket whose bound is not below it", async () => {
    const metrics = new Metrics();
    const wait = metrics.histogram("outrider_wait_seconds", "", [], [0.001, 0.01, 0.1]).with({});
    for (const seconds of [0.0005, 0.001, 0.0011, 0.1, 7, Number.NaN]) wait.observe(seconds);
    const text = await metrics.text();
    const bucket = (le: string) => sampleValue(text, "outrider_wait_seconds_bucket", { le });
    expect([bucket("0.001"), bucket("0.01"), bucket("0.1"), bucket("+Inf")]).toEqual([2, 3, 4, 5]);
    expect(sampleValue(text, "outrider_wait_seconds_sum")).toBeCloseTo(7.1026);
  });

  it("tell calls of 100 microseconds from calls of 500 without a setting", () => {
    const between = defaultBucketsSeconds.filter((bound) => bound > 0.0001 && bound < 0.0005);
    expect(defaultBucketsSeconds[0]).toBe(0.00005);
    expect(defaultBucketsSeconds.at(-1)).toBe(60);
    expect(between.length).toBeGreaterThan(0);
  });

  it("are the same family and the same handle when they are asked for twice", async () => {
    const metrics = new Metrics();
    const count = () => metrics.counter("outrider_events_total", "", ["topic", "group"]);
    expect(count()).toBe(count());
    expect(count().with({ topic: "t", group: "g" })).toBe(count().with({ group: "g", topic: "t" }));
  });

  it("refuse a name that is taken by another type or other labels", () => {
    const metrics = new Metrics();
    metrics.gauge("outrider_level", "", ["a"]);
    expect(() => metrics.gauge("outrider_level", "", ["b"])).toThrow("other labels");
    expect(() => metrics.histogram("outrider_level", "", ["a"])).toThrow("another type");
  });

  it("refuse names and buckets that Prometheus would refuse or misread", () => {
    const metrics = new Metrics();
    expect(() => metrics.gauge("outrider-level", "", [])).toThrow("not a metric name");
    expect(() => metrics.counter("outrider_events", "", [])).toThrow("_total");
    expect(() => metrics.histogram("outrider_wait_seconds", "", ["le"])).toThrow("not a label");
    expect(() => metrics.histogram("outrider_wait_seconds", "", [], [1, 1])).toThrow("ascend");
  });

  it("keep no more label sets than the limit, and count the rest under other", async () => {
    const metrics = new Metrics({ maxSeriesPerFamily: 3 });
    const events = metrics.counter("outrider_events_total", "", ["topic"]);
    const handles = new Set(Array.from({ length: 1000 }, (_, index) => events.with({ topic: `t${index}` })));
    for (const handle of handles) handle.add();
    events.with({ topic: "t998" }).add();
    const text = await metrics.text();
    expect(handles.size).toBe(4);
    expect(parsePrometheusText(text).get("outrider_events_total")?.samples.length).toBe(4);
    expect(sampleValue(text, "outrider_events_total", { topic: "t0" })).toBe(1);
    expect(sampleValue(text, "outrider_events_total", { topic: "other" })).toBe(2);
    expect(
      sampleValue(text, "outrider_metrics_dropped_series_total", { family: "outrider_events_total" }),
    ).toBe(998);
  });

  it("show a label set that is really called other once, full or not", async () => {
    const metrics = new Metrics({ maxSeriesPerFamily: 1 });
    const events = metrics.counter("outrider_events_total", "", ["topic"]);
    events.with({ topic: "other" }).add();
    events.with({ topic: "one too many" }).add();
    const text = await metrics.text();
    expect(sampleValue(text, "outrider_events_total", { topic: "other" })).toBe(2);
  });

  it("make room when a label set is removed", async () => {
    const metrics = new Metrics({ maxSeriesPerFamily: 1 });
    const lag = metrics.gauge("outrider_lag_events", "", ["topic"]);
    lag.with({ topic: "a" }).set(5);
    lag.remove({ topic: "a" });
    lag.with({ topic: "b" }).set(6);
    const samples = parsePrometheusText(await metrics.text()).get("outrider_lag_events")?.samples;
    expect(samples).toEqual([{ name: "outrider_lag_events", labels: { topic: "b" }, value: 6 }]);
  });
});

describe("a scrape", () => {
  it("waits for gauges that are set in it, until their owner leaves", async () => {
    const metrics = new Metrics();
    const level = metrics.gauge("outrider_level", "", []).with({});
    let next = 1;
    const remove = metrics.onScrape(async () => level.set(next++));
    expect(sampleValue(await metrics.text(), "outrider_level")).toBe(1);
    remove();
    expect(sampleValue(await metrics.text(), "outrider_level")).toBe(1);
  });

  it("shows the rest when one update fails and another never ends, and starts neither twice at once", async () => {
    const metrics = new Metrics({ updateTimeoutMs: 20 });
    const level = metrics.gauge("outrider_level", "", []).with({});
    let started = 0;
    metrics.onScrape(() => {
      started += 1;
      return new Promise(() => {});
    });
    metrics.onScrape(() => {
      throw new Error("the broker is away");
    });
    metrics.onScrape(() => level.set(4));
    await metrics.text();
    const text = await metrics.text();
    expect(sampleValue(text, "outrider_level")).toBe(4);
    expect(started).toBe(1);
    expect(sampleValue(text, "outrider_metrics_stale_updates_total")).toBe(4);
  });

  it("says what the process costs, with counters that only grow", async () => {
    const metrics = new Metrics();
    const stop = processMetrics(metrics);
    const first = await metrics.text();
    const busyUntil = performance.now() + 20;
    while (performance.now() < busyUntil);
    const second = await metrics.text();
    stop();
    const cpu = (text: string) => sampleValue(text, "process_cpu_seconds_total")!;
    expect(cpu(second)).toBeGreaterThan(cpu(first));
    expect(cpu(second)).toBeLessThanOrEqual(process.cpuUsage().user / 1e6 + process.cpuUsage().system / 1e6);
    expect(sampleValue(second, "process_resident_memory_bytes")).toBeGreaterThan(10_000_000);
    expect(sampleValue(second, "process_start_time_seconds")).toBeLessThanOrEqual(Date.now() / 1000);
    expect(sampleValue(second, "nodejs_eventloop_lag_seconds")).toBeGreaterThan(0);
  });
});

describe("the metrics of a method", () => {
  it("count a call while it runs, and how it ended", async () => {
    const metrics = new Metrics();
    const labels = { service: "outrider.state.v1.StateService", method: "Get" };
    const get = rpcMetrics(metrics, labels.service, labels.method);
    const begun = [get.begin(), get.begin(), get.begin()];
    expect(sampleValue(await metrics.text(), "outrider_rpc_in_flight", labels)).toBe(3);
    for (const [index, startedAt] of begun.entries()) get.end(startedAt, [0, 5, 99][index]!);
    const text = await metrics.text();
    expect(sampleValue(text, "outrider_rpc_in_flight", labels)).toBe(0);
    expect(sampleValue(text, "outrider_rpc_requests_total", { ...labels, code: "OK" })).toBe(1);
    expect(sampleValue(text, "outrider_rpc_requests_total", { ...labels, code: "NOT_FOUND" })).toBe(1);
    expect(sampleValue(text, "outrider_rpc_requests_total", { ...labels, code: "UNKNOWN" })).toBe(1);
    expect(sampleValue(text, "outrider_rpc_duration_seconds_count", labels)).toBe(3);
  });

  it("are shared by every port that serves it", async () => {
    const metrics = new Metrics();
    for (const port of [rpcMetrics(metrics, "S", "M"), rpcMetrics(metrics, "S", "M")])
      port.end(port.begin(), 0);
    const labels = { service: "S", method: "M", code: "OK" };
    expect(sampleValue(await metrics.text(), "outrider_rpc_requests_total", labels)).toBe(2);
  });
});
