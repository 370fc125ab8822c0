import { expect, it } from "vitest";
import type { DriverSubscription, Received } from "../../../src/blocks/pubsub/driver.ts";
import { MemoryBroker } from "../../../src/components/memory/broker/broker.ts";
import { MemoryPubSub } from "../../../src/components/memory/pubsub.ts";
import { outgoing, seeded, textOf } from "../../conformance/pubsub/fixture.ts";

const call = { signal: new AbortController().signal };

it("keeps its promises in any order of events, with a memory that is too small", async () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const untilMs = performance.now() + 1500;
  for (let round = 0; round < 1000 && performance.now() < untilMs; round += 1) {
    const mistakes = await randomRun(seeded(seed + round));
    expect(mistakes, `with SEED=${seed + round}`).toEqual([]);
  }
});

/** A group with members that come and go, and take everything that can be done to an event. */
async function randomRun(random: () => number): Promise<string[]> {
  const bytes = 12_000 + Math.floor(random() * 60_000);
  const driver = new MemoryPubSub(new MemoryBroker({ ageMs: 3_600_000, bytes }));
  const ordered = random() < 0.5;
  const pick = (bound: number) => Math.floor(random() * bound);
  const topic = random() < 0.5 ? "t.*" : "t.a";
  const mistakes: string[] = [];
  const state = new Map<string, "out" | "done">();
  const outKeys = new Set<string>();
  const last = new Map<string, number>();
  const members = new Map<DriverSubscription, Received[]>();
  const keyOf = (one: Received) => `${one.topic}/${one.key}`;
  const release = (one: Received) => {
    state.delete(textOf(one));
    outKeys.delete(keyOf(one));
  };
  const join = async () =>
    members.set(
      await driver.open({ topic, group: "group", start: { at: "earliest" }, ordered, raw: false }, call),
      [],
    );
  await join();
  const lag = async () => [...members.keys()][0]!.lag!(call);
  let published = 0;
  let settled = 0;
  for (let step = 0; step < 150; step += 1) {
    const [member, held] = [...members][pick(members.size)]!;
    const what = random();
    if (what < 0.3) {
      const batch = Array.from({ length: pick(12) }, () =>
        outgoing(`${published++}`, { key: ["", "k", "l"][pick(3)]! }),
      );
      await driver.publish(topic === "t.a" ? topic : `t.${"ab"[pick(2)]}`, batch);
    } else if (what < 0.6) {
      const waitable = (await lag()).events > held.length;
      const received = waitable ? await member.receive(1 + pick(5), { signal: AbortSignal.timeout(1) }) : [];
      for (const one of received) {
        const text = textOf(one);
        if (state.has(text)) mistakes.push(`${text} came while it was ${state.get(text)}`);
        if (ordered && one.key !== "") {
          if (outKeys.has(keyOf(one))) mistakes.push(`${text} came while its key was out`);
          if (Number(text) < (last.get(keyOf(one)) ?? 0))
            mistakes.push(`${text} came after ${last.get(keyOf(one))}`);
          last.set(keyOf(one), Number(text));
          outKeys.add(keyOf(one));
        }
        state.set(text, "out");
        held.push(one);
      }
    } else if (what < 0.9) {
      const one = held.splice(pick(held.length), 1)[0];
      if (!one) continue;
      const dice = random();
      const { receipt } = one;
      release(one);
      if (dice < 0.6) {
        state.set(textOf(one), "done");
        settled += 1;
        await member.settle([{ receipt, kind: "done" }], call);
      } else if (dice < 0.8) await member.settle([{ receipt, kind: "again", delayMs: pick(3) }], call);
      else await member.settle([{ receipt, kind: "returned" }], call);
    } else if (what < 0.95) await join();
    else if (members.size > 1) {
      for (const one of held) release(one);
      members.delete(member);
      await member.close();
    }
    const { events, trimmedUnsettled } = await lag();
    if (events + trimmedUnsettled + settled !== published) {
      mistakes.push(`step ${step}: ${events} + ${trimmedUnsettled} + ${settled} are not ${published}`);
    }
  }
  await driver.close();
  return mistakes;
}
