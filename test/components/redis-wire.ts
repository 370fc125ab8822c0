/** A connection to Redis that a test has in its hands: what is said may be lost, or arrive when it is too late. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A port that leads to a server. */
export interface Wire extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** From now on the connections that there are carry no answers. */
  loseAnswers(): void;
  /** From now on what is said on the connections that there are stays on its way. */
  hold(): void;
  /** What is on its way. */
  held(): string;
  /** Ends the connections for those who made them. New ones carry everything. */
  cut(): void;
  /** Lets everything arrive that is still on its way, also on connections that were cut. */
  deliver(): void;
}

/** Opens one to a port on 127.0.0.1. */
export async function openWire(serverPort: number): Promise<Wire> {
  interface Line {
    readonly near: Socket;
    readonly far: Socket;
    readonly held: Buffer[];
    holds: boolean;
    answers: boolean;
  }
  const lines = new Set<Line>();
  const cutOff = new Set<Line>();
  const server = createServer((near) => {
    const far = connect(serverPort, "127.0.0.1");
    const line: Line = { near, far, held: [], holds: false, answers: true };
    lines.add(line);
    near.on("data", (bytes: Buffer) => {
      if (line.holds) line.held.push(bytes);
      else far.write(bytes);
    });
    far.on("data", (bytes) => {
      if (line.answers) near.write(bytes);
    });
    for (const socket of [near, far]) socket.on("error", () => {});
    far.on("close", () => near.destroy());
    near.on("close", () => {
      lines.delete(line);
      if (line.holds) cutOff.add(line);
      // What was said before the end has been said.
      else far.end();
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    host: "127.0.0.1",
    port: (server.address() as AddressInfo).port,
    loseAnswers() {
      for (const line of lines) line.answers = false;
    },
    hold() {
      for (const line of lines) line.holds = true;
    },
    held: () => Buffer.concat([...lines].flatMap(({ held }) => held)).toString("latin1"),
    cut() {
      for (const line of lines) {
        line.answers = false;
        line.near.destroy();
      }
    },
    deliver() {
      for (const line of [...lines, ...cutOff]) {
        line.holds = false;
        for (const bytes of line.held.splice(0)) line.far.write(bytes);
        if (cutOff.delete(line)) line.far.end();
      }
    },
    async [Symbol.asyncDispose]() {
      for (const { near, far } of [...lines, ...cutOff]) {
        near.destroy();
        far.destroy();
      }
      server.close();
      await once(server, "close");
    },
  };
}
