/** The policies of components that are in force, and what their circuit breakers have counted. */
import { isDeepStrictEqual } from "node:util";
import type { Schemas, SidecarConfiguration } from "../assembly.ts";
import type { ComponentResource } from "../config/components.ts";
import type { Direction } from "../config/resiliency.ts";
import { Policy } from "../resilience/policy.ts";

/** See the head of this file. */
export class PoliciesInForce {
  #configuration: SidecarConfiguration;
  readonly #policies = new Map<string, Policy | undefined>();

  constructor(configuration: SidecarConfiguration) {
    this.#configuration = configuration;
  }

  /** What applies to calls of a component, or to what it delivers; undefined: nothing. */
  of(
    { name, block }: Pick<ComponentResource<Schemas>, "name" | "block">,
    direction: Direction,
  ): Policy | undefined {
    const key = `${direction} ${name}`;
    if (!this.#policies.has(key)) {
      const settings = this.#configuration.policies.of(name, block, direction);
      this.#policies.set(key, settings && new Policy(settings));
    }
    return this.#policies.get(key);
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
