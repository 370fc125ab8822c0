/** Prints, last of all, how many tests passed, failed and were skipped, and why each was skipped. */
import type { Reporter, TestModule } from "vitest/node";

export default class TotalsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    const skipped: string[] = [];
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const result = test.result();
        count[result.state] += 1;
        if (result.state === "skipped") skipped.push(`${test.fullName}: ${result.note ?? "no reason given"}`);
      }
      // A file that does not load has no tests that could fail.
      if (module.state() === "failed" && module.errors().length > 0) count.failed += 1;
    }
    const lines = skipped.map((line) => `skipped: ${line}`);
    const total = `${count.passed} passed, ${count.failed + count.pending} failed`;
    lines.push(skipped.length > 0 ? `${total}, ${skipped.length} skipped` : total);
    process.stdout.write(`${lines.join("\n")}\n`);
  }
}
