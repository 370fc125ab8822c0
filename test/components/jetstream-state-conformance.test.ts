import { afterAll, beforeAll } from "vitest";
import { stateConformance } from "../conformance/state.ts";
import { type NatsAddress, startNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import type { Server } from "../servers/server.ts";
import { largeMessages, openState } from "./jetstream-server.ts";

describeWith("nats", "state.jetstream", () => {
  let server: Server & NatsAddress;

  beforeAll(async () => {
    server = await startNats(largeMessages);
  });
  afterAll(() => server.kill());

  stateConformance(() => openState({ natsURL: server.url, bucket: "conformance" }));
});
