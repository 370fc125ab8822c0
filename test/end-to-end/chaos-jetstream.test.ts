import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
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
  explain: ({ port }) => consumersOf(port),
});

/** What the server says of its streams and their consumers, in lines. */
async function consumersOf(port: number): Promise<string> {
  const connection = await connect({ servers: `127.0.0.1:${port}` });
  try {
    const manager = await jetstreamManager(connection);
    const lines: string[] = [];
    for await (const { config, state } of manager.streams.list()) {
      lines.push(JSON.stringify({ stream: config.name, first: state.first_seq, last: state.last_seq }));
      for await (const { config: own, ...info } of manager.consumers.list(config.name))
        lines.push(JSON.stringify({ ...info, max_ack_pending: own.max_ack_pending, ack_wait: own.ack_wait }));
    }
    return lines.join("\n");
  } finally {
    await connection.close();
  }
}
