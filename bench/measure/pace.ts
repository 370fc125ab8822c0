/** How fast the machine is now: what a bare echo call costs beside a measurement that has no echo of its own. */
import { Connection } from "../client/connection.ts";
import { getRequest, paths } from "../messages.ts";
import type { Server } from "../servers/child.ts";
import { startYardstick } from "../servers/yardstick-server.ts";
import { closedLoop } from "./load.ts";
import { median } from "./numbers.ts";

/** What a bare grpc-js echo takes on the machine of daprd's figures, in microseconds: aims in microseconds are meant for its pace. */
export const aimedEchoMicros = 36.6;

/** Calls under way at once, as with `beside-yardstick.ts`. */
const inFlight = 32;
const sliceMs = 500;

/** See the head of this file. Measured in turns with what it stands beside. */
export class Pace {
  readonly #server: Server;
  readonly #connection: Connection;
  readonly #costs: number[] = [];

  private constructor(server: Server, connection: Connection) {
    this.#server = server;
    this.#connection = connection;
  }

  /** Starts the yardstick and has it compiled. */
  static async start(): Promise<Pace> {
    const server = await startYardstick();
    const pace = new Pace(server, await Connection.open(server.grpcPort));
    for (let i = 0; i < 4; i++) await pace.#slice();
    return pace;
  }

  /** One measurement: processor time of an echo now, in microseconds. */
  async measure(): Promise<number> {
    const cost = await this.#slice();
    this.#costs.push(cost);
    return cost;
  }

  /** Processor time of an echo in microseconds, the median of what was measured since this was last asked. */
  take(): number {
    return median(this.#costs.splice(0));
  }

  async stop(): Promise<void> {
    this.#connection.close();
    await this.#server.stop();
  }

  async #slice(): Promise<number> {
    const request = getRequest("state", 0);
    const call = () => this.#connection.call(paths.get, request);
    return (await closedLoop(this.#server.pid, sliceMs, inFlight, call)).cpuMicros;
  }
}
