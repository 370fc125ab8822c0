/** A component that is killed in the middle of calls, and started again. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { outgoing, textOf } from "../../conformance/pubsub/fixture.ts";
import { setOf } from "../../conformance/state/fixture.ts";
import { call, openPubSub, openState } from "./drivers.ts";
import { describeWithPython, PythonComponent } from "./python-component.ts";

await describeWithPython("a component in Python that is killed", () => {
  let component: PythonComponent;
  beforeAll(async () => {
    component = await PythonComponent.make("store");
    await component.start();
  }, 60_000);
  afterAll(() => component[Symbol.asyncDispose]());

  it("loses nothing that was answered, and its clients go on by themselves", {
    timeout: 60_000,
  }, async () => {
    const driver = await openState(component.folder);
    const written: string[] = [];
    let unknown = 0;
    for (let round = 0; round < 3; round += 1) {
      const writing = Array.from({ length: 50 }, async (_, index) => {
        const key = `${round}/${index}`;
        await driver.write([setOf(key, key)], call(), false).then(
          () => written.push(key),
          (error: unknown) => {
            // Whether it was written nobody knows.
            expect(driver.classify(error)).toBe("unavailable");
            unknown += 1;
          },
        );
      });
      await expect.poll(() => written.length, { interval: 1, timeout: 20_000 }).toBeGreaterThan(round * 2);
      await component.kill();
      await component.start();
      await Promise.all(writing);
    }
    expect(written.length + unknown).toBe(150);
    const items = await driver.get(written, call());
    expect(items.map((item) => item?.key)).toEqual(written);
    await driver.close();
  });

  it("gives every event that was published, at least once", { timeout: 60_000 }, async () => {
    const driver = await openPubSub(component.folder, "store");
    const subscription = await driver.open(
      { topic: "killed", group: "g", start: { at: "earliest" }, ordered: false, raw: true },
      call(),
    );
    const published = new Set<string>();
    const settled = new Set<string>();
    const total = 300;
    const publish = async () => {
      for (let index = 0; index < total; index += 1) {
        const [result] = await driver
          .publish("killed", [outgoing(`${index}`, { raw: true })], call())
          .catch((error: unknown) => [error]);
        if (!(result instanceof Error)) published.add(`${index}`);
      }
    };
    const over = new AbortController();
    const consume = async () => {
      while (!over.signal.aborted) {
        const received = await subscription.receive(10, { signal: over.signal });
        for (const each of received) settled.add(textOf(each));
        await subscription.settle(
          received.map(({ receipt }) => ({ receipt, kind: "done" })),
          call(),
        );
      }
    };
    const [publishing, consuming] = [publish(), consume()];
    for (const reached of [50, 100]) {
      await expect.poll(() => published.size, { interval: 1, timeout: 20_000 }).toBeGreaterThan(reached);
      await component.kill();
      await component.start();
    }
    await publishing;
    await expect
      .poll(() => [...published].filter((text) => !settled.has(text)), { timeout: 20_000 })
      .toEqual([]);
    over.abort();
    await consuming;
    await driver.close();
  });
});
