/** The metrics port, as Prometheus sees it. */
import { expect, it } from "vitest";
import { startMetricsServer } from "../../src/server/metrics.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";

it("tells the metrics, and nothing else", async () => {
  const telemetry = quietTelemetry();
  telemetry.metrics.counter("outrider_tests_total", "Tests.", []).with({}).add(3);
  const server = await startMetricsServer({ host: "127.0.0.1", port: 0, telemetry });
  const base = `http://127.0.0.1:${server.port}`;
  const response = await fetch(`${base}/metrics?name=any`);
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(await response.text()).toContain("\noutrider_tests_total 3\n");
  expect((await fetch(`${base}/`)).status).toBe(200);
  expect((await fetch(`${base}/healthz`)).status).toBe(404);
  expect((await fetch(`${base}/metrics`, { method: "POST" })).status).toBe(405);
  await server.close(1000);
  await expect(fetch(base)).rejects.toThrow();
});

it("finishes a scrape before it closes", async () => {
  const telemetry = quietTelemetry();
  const { promise, resolve } = Promise.withResolvers<void>();
  const scraped = Promise.withResolvers<void>();
  telemetry.metrics.onScrape(() => {
    scraped.resolve();
    return promise;
  });
  const server = await startMetricsServer({ host: "127.0.0.1", port: 0, telemetry });
  const scrape = fetch(`http://127.0.0.1:${server.port}/metrics`);
  await scraped.promise;
  const closed = server.close(10_000);
  resolve();
  expect((await scrape).status).toBe(200);
  await closed;
});
