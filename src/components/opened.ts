/** The components of one sidecar, opened side by side. */
import { type ComponentView, capabilitiesOf } from "../blocks/runtime/service.ts";
import type { BlockName, Drivers, OpenContext } from "../component.ts";
import type { BlockSchemas, ComponentResource, ComponentResourceOf } from "../config/components.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { Opening, type OpeningStatus } from "./opening.ts";

/** How long a driver may take to close, in milliseconds: one that hangs does not keep the sidecar from ending. */
const closeWithinMs = 5000;

/** What is the same for all components of a sidecar. */
export interface OpenedOptions extends Pick<OpenContext, "appId" | "instanceId" | "dataDirectory"> {
  readonly telemetry: Telemetry;
}

/** A component of one block, and the settings that its block has in it. */
export interface Opened<Block extends BlockName, Schemas extends BlockSchemas> {
  readonly connection: Opening<Drivers[Block]>;
  readonly blockSettings: ComponentResourceOf<Block, Schemas>["blockSettings"];
}

interface Entry<Schemas extends BlockSchemas> {
  readonly resource: ComponentResource<Schemas>;
  readonly opening: Opening<Drivers[BlockName]>;
}

/** See the head of this file. */
export class OpenedComponents<Schemas extends BlockSchemas> {
  readonly #entries: readonly Entry<Schemas>[];
  readonly #telemetry: Telemetry;

  /** Opens nothing yet. `onChange` is called after each change of a status. */
  constructor(
    resources: readonly ComponentResource<Schemas>[],
    options: OpenedOptions,
    onChange: () => void,
  ) {
    this.#telemetry = options.telemetry;
    this.#entries = resources.map((resource) => {
      let before: OpeningStatus["state"] = "opening";
      const tell = (status: OpeningStatus, err: unknown) => {
        this.#log(resource, before, status, err);
        before = status.state;
        onChange();
      };
      return { resource, opening: openingOf(resource, options, tell) };
    });
  }

  /** Begins to open all of them. Returns at once. */
  start(): void {
    for (const { opening } of this.#entries) opening.start();
  }

  /** Those of one block, in the order of the configuration. */
  of<Block extends BlockName>(block: Block): readonly Opened<Block, Schemas>[] {
    return this.#entries
      .filter(({ resource }) => resource.block === block)
      .map(({ resource, opening }) => ({
        // The block of the resource is the block of its driver, which the compiler cannot follow.
        connection: opening as unknown as Opening<Drivers[Block]>,
        blockSettings: resource.blockSettings as Opened<Block, Schemas>["blockSettings"],
      }));
  }

  /** Whether every component that must be there can serve. */
  get allReady(): boolean {
    return this.#entries.every(({ opening }) => !opening.required || opening.status.state === "ready");
  }

  /** Resolves when every component that must be there can serve. */
  async ready(signal: AbortSignal): Promise<void> {
    const required = this.#entries.filter(({ opening }) => opening.required);
    await Promise.all(required.map(({ opening }) => opening.ready(signal)));
  }

  /** Whether any of them keeps its data in the data directory. */
  get useDataDirectory(): boolean {
    return this.#entries.some(({ resource }) => resource.component.type.endsWith(".sqlite"));
  }

  /** For metadata and health. */
  get views(): readonly ComponentView[] {
    return this.#entries.map(({ resource, opening }) => ({
      name: resource.name,
      type: resource.component.type,
      version: resource.version,
      declaredIn: resource.source?.file ?? "",
      required: opening.required,
      capabilities: () =>
        opening.status.state === "ready" ? capabilitiesOf(opening.current().supports) : [],
      status: () => opening.status,
      ping: (signal) => opening.current().ping({ signal }),
    }));
  }

  /** Closes all of them. Never rejects. */
  async close(): Promise<void> {
    await Promise.all(
      this.#entries.map(async ({ resource, opening }) => {
        let timer: NodeJS.Timeout | undefined;
        const late = new Promise<never>((_, reject) => {
          timer = setTimeout(() => reject(new Error(`not closed within ${closeWithinMs} ms`)), closeWithinMs);
        });
        await Promise.race([opening.close(), late])
          .catch((err: unknown) => {
            this.#telemetry.log.warn({ component: resource.name, err }, "the component could not be closed");
          })
          .finally(() => clearTimeout(timer));
      }),
    );
  }

  #log(
    resource: ComponentResource<Schemas>,
    before: OpeningStatus["state"],
    { state, message }: OpeningStatus,
    err: unknown,
  ): void {
    const fields = { component: resource.name, type: resource.component.type };
    const { log } = this.#telemetry;
    // What goes as it should is no news.
    if (state === "ready") log[before === "failed" ? "info" : "debug"](fields, "the component is open");
    if (state === "failed") {
      const consequence = resource.ignoreErrors
        ? "is not needed to be ready"
        : "keeps the sidecar from being ready";
      const told = `the component could not be opened and ${consequence}; trying again: ${message}`;
      log.warn({ ...fields, err }, told);
    }
  }
}

function openingOf(
  resource: ComponentResource,
  { appId, dataDirectory, instanceId, telemetry: { log, metrics } }: OpenedOptions,
  onChange: (status: OpeningStatus, cause: unknown) => void,
): Opening<Drivers[BlockName]> {
  const { component, name, version } = resource;
  return new Opening<Drivers[BlockName]>({
    type: component.type,
    open: component.configure(resource.settings),
    context: {
      name,
      version,
      appId,
      instanceId,
      dataDirectory,
      telemetry: { metrics, log: log.child({ component: name }) },
    },
    initTimeoutMs: resource.initTimeoutMs,
    required: !resource.ignoreErrors,
    onChange,
  });
}
