import { afterAll, beforeAll } from "vitest";
import { pubSubConformance } from "../conformance/pubsub.ts";
import { type NatsAddress, startNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import type { Server } from "../servers/server.ts";
import { largeMessages, openPubSub } from "./jetstream-server.ts";

describeWith("nats", "pubsub.jetstream", () => {
  let server: Server & NatsAddress;

  beforeAll(async () => {
    server = await startNats(largeMessages);
  });
  afterAll(() => server.kill());

  const open = () => openPubSub({ natsURL: server.url });
  pubSubConformance(open, { second: open, delayStepMs: 300 });
});
