/** Ports for servers. */
import { createSocket } from "node:dgram";
import { createServer } from "node:net";

// Below those that the kernel gives to outgoing connections. Else one of them could take the port of a server that is
// down for a moment, or a client that tries to reach it again could connect to itself. Fetch refuses port 10080.
const first = 10_100;
const last = 32_000;

/**
 * A port on 127.0.0.1 that nothing listens on, and that nobody else gets from here while this process lives. So whoever
 * is to listen there may be slow to start, or down for a while.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = first + Math.floor(Math.random() * (last - first));
    // In this order: looking whether a port is free takes it for a moment, when its owner may want to listen again.
    if ((await reserve(port)) && (await isFree(port))) return port;
  }
}

/** As many, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(false));
    server.listen(port, "127.0.0.1", () => server.close(() => done(true)));
  });
}

/**
 * Tests run in several processes at a time. What they have drawn they tell each other by UDP sockets, which are in the way
 * of no server, and which the system takes back however a process ends.
 */
function reserve(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = createSocket("udp4").unref();
    socket.once("error", () => {
      socket.close();
      done(false);
    });
    socket.bind({ port, address: "127.0.0.1", exclusive: true }, () => done(true));
  });
}
