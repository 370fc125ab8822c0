/**
 * An application that writes state in transactions, on a store with an outbox: an event for each write is to follow if and
 * only if the transaction commits. It writes down what was acknowledged. Run by crash-test.ts.
 */
import { openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Application } from "./application.ts";
import { blockerKey, doomedPrefix, itemKey } from "./outbox-verdict.ts";
import { askedToEnd, pause, readTask, silentMs, withSidecars } from "./program.ts";
import { Random } from "./random.ts";
import { readPort } from "./sidecar-ports.ts";
import { acknowledgedLine, type EventName } from "./verdict.ts";

/** Transactions of this application that are under way at once. */
const atOnce = 3;
const paceMs = 30;
/** One transaction in so many is refused for the last of its writes. */
const oneDoomedIn = 10;
const answerWithinMs = 10_000;
/** More than one life can make, as with publishers; the last digit keeps them apart from those. */
const transactionsOfALife = 1_000_000;

const task = readTask();
const random = new Random(task.seed);
const end = askedToEnd();
const log = openSync(join(task.directory, `acknowledged-outbox-${task.life}.log`), "a");
let transactions = task.life * transactionsOfALife;

await withSidecars(task, end, async (sidecar) => {
  using app = new Application(readPort(task.directory, sidecar));
  app.leaveWhenSilent(silentMs);
  await app.state.set({ key: blockerKey, value: Buffer.from("here") }, { timeoutMs: answerWithinMs });
  while (!end.aborted) {
    await Promise.all(Array.from({ length: atOnce }, () => transact(app)));
    await pause(paceMs);
  }
});
process.exit(0);

async function transact(app: Application): Promise<void> {
  transactions += 1;
  const names = [7, 8].map((digit): EventName => ({ key: "-", sequence: transactions * 10 + digit }));
  const doomed = random.below(oneDoomedIn) === 0;
  const sets = names.map((name) => ({
    key: doomed ? `${doomedPrefix}${name.sequence}` : itemKey(name),
    value: Buffer.from(doomed ? `doomed ${name.sequence}` : `${name.key} ${name.sequence}`),
  }));
  const writes = sets.map((value) => ({ write: { case: "set" as const, value } }));
  if (doomed) {
    const absent = { condition: { case: "absent" as const, value: true } };
    const value = { key: blockerKey, value: Buffer.from("again"), precondition: absent };
    writes.push({ write: { case: "set", value } });
    await app.state.transact({ writes }, { timeoutMs: answerWithinMs }).then(
      () => process.stderr.write(`a transaction was applied against its precondition\n`),
      () => {},
    );
    return;
  }
  await app.state.transact({ writes }, { timeoutMs: answerWithinMs });
  writeSync(log, names.map(acknowledgedLine).join(""));
}
