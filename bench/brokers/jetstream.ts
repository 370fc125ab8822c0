/** Publishing to NATS JetStream and receiving from it: through the sidecar, and with the official client alone. */
import { rm } from "node:fs/promises";
import { AckPolicy, type JetStreamClient, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { startNats } from "../../test/servers/nats.ts";
import { payload } from "../messages.ts";
import type { Scenario } from "../scenario.ts";
import { makeDirectory } from "../servers/sidecar.ts";
import { batch, publishing, startSidecarOn, streaming } from "./beside-client.ts";

export const jetStream: Scenario = {
  name: "jetstream",
  about: "publish to NATS JetStream and receive from it, beside the official client alone",
  async *run(effort) {
    // As NATS is by default: the disk is not what is measured. This block takes the place of the server's own.
    const storage = await makeDirectory();
    await using server = await startNats(`jetstream { store_dir: "${storage}", sync_interval: "2m" }`);
    const sidecar = await startSidecarOn("pubsub.jetstream", { natsURL: server.url });
    const client = await connect({ servers: server.url });
    try {
      const manager = await jetstreamManager(client);
      await manager.streams.add({ name: "plain", subjects: ["plain.>"] });
      const config = { durable_name: "plain", ack_policy: AckPolicy.Explicit, filter_subject: "plain.flow" };
      await manager.consumers.add("plain", { ...config, max_ack_pending: 100_000 });
      const plain = jetstream(client);
      const data = payload();
      yield* publishing(sidecar, "the client", () => plain.publish("plain.bench", data), effort);
      yield* streaming(sidecar, "the client", (ms) => plainFlow(plain, ms), effort);
    } finally {
      await client.close();
      await sidecar.stop();
      await server.kill();
      await rm(storage, { recursive: true, force: true });
    }
  },
};

/** Events a second, published by the hundred, consumed and acknowledged as they come. */
async function plainFlow(client: JetStreamClient, ms: number): Promise<number> {
  const data = payload();
  const consumer = await client.consumers.get("plain", "plain");
  const messages = await consumer.consume({ max_messages: 1000 });
  let [received, published] = [0, 0];
  const startedAt = performance.now();
  const consuming = (async () => {
    for await (const message of messages) {
      message.ack();
      received += 1;
      if (received >= published && performance.now() - startedAt >= ms) break;
    }
  })();
  while (performance.now() - startedAt < ms) {
    published += batch;
    await Promise.all(Array.from({ length: batch }, () => client.publish("plain.flow", data)));
  }
  await consuming;
  return received / ((performance.now() - startedAt) / 1000);
}
