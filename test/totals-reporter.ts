/**
 * Prints, last of all: why tests were skipped, which failed and with what, and how many there were of each.
 * What a CI keeps of a long run is its end, so the failures stand there.
 */
import type { Reporter, TestModule } from "vitest/node";

/** Lines of a failure's message that are repeated at the end; the whole stands further up. */
const MAX_MESSAGE_LINES = 12;

export default class TotalsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const count = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    const skipped = new Map<string, number>();
    const failed: string[] = [];
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const result = test.result();
        count[result.state] += 1;
        if (result.state === "skipped") {
          const reason = result.note ?? `no reason given: ${test.fullName}`;
          skipped.set(reason, (skipped.get(reason) ?? 0) + 1);
        }
        if (result.state === "failed") {
          failed.push(failure(`${module.relativeModuleId} > ${test.fullName}`, result.errors));
        }
      }
      // A file that does not load has no tests that could fail, and what fails before all tests has them skipped.
      for (const place of [module, ...module.children.allSuites()]) {
        const errors = place.errors();
        if (errors.length === 0) continue;
        count.failed += 1;
        failed.push(
          failure(
            "fullName" in place ? `${module.relativeModuleId} > ${place.fullName}` : module.relativeModuleId,
            errors,
          ),
        );
      }
    }
    const lines = [...skipped].map(([reason, times]) => `skipped (${times}): ${reason}`);
    lines.push(...failed);
    const total = `${count.passed} passed, ${count.failed + count.pending} failed`;
    lines.push(count.skipped > 0 ? `${total}, ${count.skipped} skipped` : total);
    process.stdout.write(`${lines.join("\n")}\n`);
  }
}

function failure(name: string, errors: readonly { readonly message: string }[]): string {
  const messages = errors.map(({ message }) => message.split("\n").slice(0, MAX_MESSAGE_LINES).join("\n"));
  return `failed: ${name}\n${messages.join("\n")}`;
}
