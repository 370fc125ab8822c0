/** Transactions that publish, and subscriptions that remember, while their store is replaced. */
import { expect, it } from "vitest";
import { component, Project } from "./project.ts";

const outbox = (timeout: number) =>
  component("store", "state.sqlite", {
    timeoutInSeconds: `${timeout}s`,
    outboxPublishPubsub: "pubsub",
    outboxPublishTopic: "orders",
  });

it("every transaction that has committed is published, once, whichever store it was committed to", async () => {
  await using project = await Project.start({ "a.yaml": outbox(10) });
  const { app } = project;
  const seen: string[] = [];
  using stream = app.subscribe([{ topic: "orders", group: "g" }], (deliveries) => {
    for (const { event } of deliveries) seen.push(`${event!.subject} ${Buffer.from(event!.data)}`);
    stream.settle(deliveries);
  });
  await stream.heard("opened");
  const committed: string[] = [];
  let going = true;
  const transacting = (async () => {
    for (let n = 0; going; n++) {
      const value = { key: `k${n}`, value: Buffer.from(String(n)) };
      await app.state.transact({ component: "store", writes: [{ write: { case: "set", value } }] });
      committed.push(`k${n} ${n}`);
    }
  })();
  for (const timeout of [11, 12, 13]) {
    const before = committed.length;
    await project.apply("a.yaml", outbox(timeout));
    await expect.poll(() => committed.length).toBeGreaterThan(before);
  }
  going = false;
  await transacting;
  await expect.poll(() => seen.length, { timeout: 20_000 }).toBeGreaterThanOrEqual(committed.length);
  expect(seen.toSorted()).toEqual(committed.toSorted());
});

it("an inbox goes on in the store that there is, and waits while there is none", async () => {
  const store = (type: string) => component("memory", type);
  const other = component("other", "state.in-memory");
  await using project = await Project.start({ "a.yaml": store("state.in-memory"), "b.yaml": other });
  const { app } = project;
  using stream = app.subscribe([{ topic: "t", group: "g", inbox: { store: "memory" } }]);
  await stream.heard("opened");
  const publish = (id: string) =>
    app.pubsub.publish({ topic: "t", outgoing: { event: { id, source: "s" } } });
  await publish("1");
  await stream.delivered(1);
  await project.apply("a.yaml", store("state.sqlite"));
  stream.settle(stream.deliveries);
  await publish("1");
  await publish("2");
  await stream.delivered(2);
  expect(stream.deliveries.map(({ event }) => event!.id)).toEqual(["1", "2"]);
  await project.apply("a.yaml", "");
  stream.settle(stream.deliveries.slice(1));
  await publish("3");
  await project.apply("a.yaml", store("state.sqlite"));
  await stream.delivered(3);
  expect(stream.deliveries.map(({ event }) => event!.id)).toEqual(["1", "2", "3"]);
});
