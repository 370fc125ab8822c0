import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // The servers that tests share end with the run.
    globalSetup: ["test/servers/global-setup.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Tests start real processes on machines with few cores.
    maxWorkers: 2,
    reporters: [process.env["CI"] ? "dot" : "default", "./test/totals-reporter.ts"],
  },
});
