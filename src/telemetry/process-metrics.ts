/** What the process itself costs, under the names that dashboards know. */
import { performance } from "node:perf_hooks";
import type { Metrics } from "./metrics.ts";

/**
 * Sets the metrics of this process at each scrape, and costs nothing between two.
 * (perf_hooks' monitorEventLoopDelay wakes the process all the time: measured here, 0.06 % of a
 * core at 100 ms and 0.5 % at its default of 10 ms, for a sidecar that has nothing to do.)
 * Returns a function that stops it.
 */
export function processMetrics(metrics: Metrics): () => void {
  const cpu = metrics
    .counter(
      "process_cpu_seconds_total",
      "Processor time of the process, all threads, in user and system.",
      [],
    )
    .with({});
  const resident = metrics
    .gauge("process_resident_memory_bytes", "Memory of the process that is in RAM.", [])
    .with({});
  metrics
    .gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", [])
    .with({})
    .set(performance.timeOrigin / 1000);
  const heap = metrics
    .gauge("nodejs_heap_size_used_bytes", "JavaScript objects, garbage included.", [])
    .with({});
  const external = metrics
    .gauge("nodejs_external_memory_bytes", "Buffers and other memory outside the JavaScript heap.", [])
    .with({});
  const busy = metrics
    .counter(
      "nodejs_eventloop_active_seconds_total",
      "Time that the event loop was not idle: its rate is how busy it is.",
      [],
    )
    .with({});
  const lag = metrics
    .gauge("nodejs_eventloop_lag_seconds", "How long the scrape waited for its turn in the event loop.", [])
    .with({});

  let cpuSeconds = 0;
  let busySeconds = 0;
  return metrics.onScrape(async () => {
    const { user, system } = process.cpuUsage();
    cpu.add((user + system) / 1e6 - cpuSeconds);
    cpuSeconds = (user + system) / 1e6;
    const { active } = performance.eventLoopUtilization();
    busy.add(active / 1000 - busySeconds);
    busySeconds = active / 1000;
    const memory = process.memoryUsage();
    resident.set(memory.rss);
    heap.set(memory.heapUsed);
    external.set(memory.external);
    const asked = performance.now();
    await new Promise<void>((resolve) => setImmediate(resolve));
    lag.set((performance.now() - asked) / 1000);
  });
}
