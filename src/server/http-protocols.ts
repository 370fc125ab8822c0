/** Tells HTTP/2 from HTTP/1.1 on one port, by what the client says first. */
import type { Socket } from "node:net";

/** How HTTP/2 begins. No method of HTTP/1.1 begins with its first three bytes. */
const preface = Buffer.from("PRI");

/**
 * Waits for the first bytes of a connection, and calls `serve` with what they are. The bytes are
 * put back. A client that says nothing for `timeoutMs`, or until `stopping` aborts, is disconnected.
 */
export function tellProtocol(
  socket: Socket,
  timeoutMs: number,
  stopping: AbortSignal,
  serve: (protocol: "http/1.1" | "h2") => void,
): void {
  let received: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  const stop = () => {
    clearTimeout(timer);
    stopping.removeEventListener("abort", end);
    socket.off("data", onData).off("end", end).off("error", end).off("close", stop);
  };
  const end = () => {
    socket.destroy();
  };
  const onData = (chunk: Buffer) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    const length = Math.min(received.length, preface.length);
    const same = received.subarray(0, length).equals(preface.subarray(0, length));
    if (same && length < preface.length) return;
    stop();
    socket.pause();
    socket.unshift(received);
    serve(same ? "h2" : "http/1.1");
    // HTTP/2 reads what was put back by itself; HTTP/1.1 waits for it to flow.
    if (!same) socket.resume();
  };
  stopping.addEventListener("abort", end);
  socket.on("data", onData).on("end", end).on("error", end).on("close", stop);
}
