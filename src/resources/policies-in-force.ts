/** The policies of components that are in force, and what their circuit breakers have counted. */
import { isDeepStrictEqual } from "node:util";
import type { Schemas, SidecarConfiguration } from "../assembly.ts";
import type { ComponentResource } from "../config/components.ts";
import { Policy } from "../resilience/policy.ts";

/** See the head of this file. */
export class PoliciesInForce {
  #configuration: SidecarConfiguration;
  readonly #policies = new Map<string, Policy | undefined>();

  constructor(configuration: SidecarConfiguration) {
    this.#configuration = configuration;
  }

  /** What applies to calls of a component; undefined: nothing. */
  of({ name, block }: ComponentResource<Schemas>): Policy | undefined {
    if (!this.#policies.has(name)) {
      const settings = this.#configuration.policies.of(name, block, "outbound");
      this.#policies.set(name, settings && new Policy(settings));
    }
    return this.#policies.get(name);
  }

  /** Another configuration is in force. Breakers go on as they are, unless a Resiliency is another. */
  enter(configuration: SidecarConfiguration): void {
    if (!isDeepStrictEqual(sources(this.#configuration), sources(configuration))) this.#policies.clear();
    this.#configuration = configuration;
  }
}

function sources({ others }: SidecarConfiguration) {
  return others.flatMap(({ kind, name, fingerprint }) =>
    kind === "Resiliency" ? [[name, fingerprint]] : [],
  );
}
