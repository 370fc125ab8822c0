/** The store's thread: the only place where SQLite is called. */
import { parentPort, workerData } from "node:worker_threads";
import { toFailure } from "./errors.ts";
import type { AnswerPacket, CallPacket, WorkerSettings } from "./messages.ts";
import { Engine } from "./thread/engine.ts";

const port = parentPort;
if (!port) throw new Error("this file is run as a worker thread");

const send = (packet: AnswerPacket) => {
  const transfer = packet.kind === "answers" ? [packet.blobs.bytes.buffer] : [];
  port.postMessage(packet, transfer);
};

try {
  const engine = new Engine(workerData as WorkerSettings, send);
  port.on("message", (packet: CallPacket) => {
    engine.take(packet);
    if (packet.close) port.close();
  });
  send({ kind: "opened", failure: undefined });
} catch (error) {
  send({ kind: "opened", failure: toFailure(error) });
  port.close();
}
