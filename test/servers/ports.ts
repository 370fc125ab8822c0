/** Ports for servers. */
import { createServer } from "node:net";

// Below those that the kernel gives to outgoing connections. Else one of them could take the port of a server that is
// down for a moment, or a client that tries to reach it again could connect to itself. Fetch refuses port 10080.
const first = 10_100;
const last = 32_000;

/** A port on 127.0.0.1 that nothing listens on. The same one is not given twice soon: it is drawn by lot. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = first + Math.floor(Math.random() * (last - first));
    if (await isFree(port)) return port;
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
