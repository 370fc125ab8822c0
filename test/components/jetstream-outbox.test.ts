import { randomUUID } from "node:crypto";
import { connect } from "@nats-io/transport-node";
import { expect, it, onTestFinished } from "vitest";
import { notesPrefix } from "../../src/blocks/state/outbox-note.ts";
import { call, Published, set, sidecar } from "../blocks/state/outbox-sidecar.ts";
import { sharedNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import { openState } from "./jetstream-server.ts";

describeWith("nats", "an outbox in a NATS bucket", () => {
  it("finds what is left, in order, without having all keys of the store named", async () => {
    const { url } = await sharedNats();
    const bucket = `outbox-${randomUUID()}`;
    const driver = await openState({ natsURL: url, bucket });
    onTestFinished(() => driver.close());
    const away = new Published();
    away.away = true;
    const dead = sidecar(driver, away.publish, { instanceId: "dead", start: false });
    for (const text of ["1", "2", "3"]) await dead.store.transact([set(`item-${text}`, text)], call());
    await dead.outbox.close(AbortSignal.timeout(20_000));
    const connection = await connect({ servers: url });
    onTestFinished(() => connection.close());
    const asked: string[] = [];
    connection.subscribe(`$JS.API.STREAM.INFO.KV_${bucket}`, {
      callback: (_, message) => void asked.push(message.string()),
    });
    await connection.flush();
    const range = { prefix: notesPrefix("app"), after: undefined, limit: 10, keysOnly: true };
    const { items } = await driver.list!(range, call());
    expect(items).toHaveLength(3);
    await expect
      .poll(() => asked.map((text) => JSON.parse(text)))
      .toMatchObject([{ subjects_filter: `$KV.${bucket}.*` }]);
    const published = new Published();
    sidecar(driver, published.publish, { instanceId: "next" });
    await expect
      .poll(() => published.texts, { timeout: 20_000 })
      .toEqual(["item-1=1", "item-2=2", "item-3=3"]);
  });
});
