import { startNats } from "../servers/nats.ts";
import { chaosTest } from "./chaos.ts";

chaosTest({
  needs: ["nats"],
  type: "pubsub.jetstream",
  start: startNats,
  metadata: (port) => ({ natsURL: `nats://127.0.0.1:${port}` }),
  state: {
    type: "state.jetstream",
    metadata: (port) => ({ natsURL: `nats://127.0.0.1:${port}`, bucket: "crash" }),
  },
  // What a server that is killed was told in its last moments it forgets; the sidecar that told it remembers, the next one does not.
  rewinds: true,
});
