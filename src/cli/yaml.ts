/** The YAML that a sidecar runs with, read the same way each time. */
import { makeAssembly, type Schemas, type SidecarConfiguration } from "../assembly.ts";
import { type LoadOptions, load } from "../config/load.ts";
import type { YamlSource } from "../reload/reload.ts";

/** What the flags say of it. */
export interface YamlOptions
  extends Pick<
    LoadOptions<Schemas>,
    "resourcesPaths" | "configPaths" | "appId" | "environment" | "tolerant"
  > {
  /** How often it is looked what has changed without the platform's telling, in milliseconds. Undefined: the default. */
  readonly lookMs?: number | undefined;
}

/** See the head of this file. */
export class Yaml implements YamlSource {
  readonly paths: readonly string[];
  readonly lookMs: number | undefined;
  /** Every secret that it has ever referred to, for logs to redact. */
  readonly secrets = new Set<string>();
  readonly #options: LoadOptions<Schemas>;

  constructor({ lookMs, ...options }: YamlOptions) {
    this.paths = [...options.resourcesPaths, ...options.configPaths];
    this.lookMs = lookMs;
    // One assembly: components that are opened later share with those that are open already.
    this.#options = { ...makeAssembly(), ...options };
  }

  /** Throws ConfigError with every mistake that there is. */
  async load(): Promise<SidecarConfiguration> {
    const configuration = await load(this.#options);
    for (const secret of configuration.secrets) this.secrets.add(secret);
    return configuration;
  }
}
