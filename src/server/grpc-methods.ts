/** The methods of a server, by path. */
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { LateMount, Mount } from "./mount.ts";
import { Rpc } from "./rpc.ts";

/** See the head of this file. */
export class Methods {
  readonly telemetry: Telemetry;
  readonly #rpcs = new Map<string, Rpc>();
  /** Those of services that have not been called yet. */
  readonly #late = new Map<string, LateMount>();

  constructor(telemetry: Telemetry) {
    this.telemetry = telemetry;
  }

  /** Every path that has been added. */
  get paths(): readonly string[] {
    return [...this.#rpcs.keys(), ...this.#late.keys()];
  }

  /** Adds the methods of a service. */
  add(mounted: Mount | LateMount): void {
    if (!("load" in mounted)) this.#addLoaded(mounted);
    else for (const name of mounted.methodNames) this.#late.set(`/${mounted.typeName}/${name}`, mounted);
  }

  /** Undefined: its service has not been loaded. */
  get(path: string): Rpc | undefined {
    return this.#rpcs.get(path);
  }

  /** A method of a path that was added, its service being loaded if need be. Rejects when it cannot be loaded. */
  async load(path: string): Promise<Rpc> {
    const mounted = await this.#late.get(path)?.load();
    // Another call may have been faster.
    if (mounted && !this.#rpcs.has(path)) this.#addLoaded(mounted);
    const rpc = this.#rpcs.get(path);
    if (!rpc) throw new Error(`no method is at ${path}`);
    return rpc;
  }

  #addLoaded(mounted: Mount): void {
    for (const method of mounted.service.methods) {
      const rpc = new Rpc(mounted, method, this.telemetry);
      this.#rpcs.set(`/${rpc.name}`, rpc);
    }
  }
}
