/** One component of a sidecar: what its YAML says, and its driver. */
import { setTimeout as delay } from "node:timers/promises";
import { type ComponentView, capabilitiesOf } from "../blocks/runtime/sidecar-view.ts";
import type { BlockName, Drivers, OpenContext } from "../component.ts";
import type { ComponentResource } from "../config/components.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { Opening, type OpeningStatus } from "./opening.ts";

/** How long a driver may take to close, in milliseconds: one that hangs does not keep the sidecar from ending. */
const closeWithinMs = 5000;

/** What a component is opened with. */
export interface OpenedOptions extends Pick<OpenContext, "appId" | "instanceId" | "dataDirectory"> {
  readonly telemetry: Telemetry;
  /** Called after each change of its status. */
  readonly onChange: () => void;
}

/** See the head of this file. */
export class OpenedComponent<Block extends BlockName> {
  readonly connection: Opening<Drivers[Block]>;
  readonly #telemetry: Telemetry;
  #resource: ComponentResource;

  /** Opens nothing yet. */
  constructor(resource: ComponentResource & { readonly block: Block }, options: OpenedOptions) {
    this.#resource = resource;
    this.#telemetry = options.telemetry;
    let before: Pick<OpeningStatus, "state" | "message"> = { state: "opening", message: "" };
    const tell = (status: OpeningStatus, err: unknown) => {
      this.#log(before, status, err);
      before = status;
      options.onChange();
    };
    // The block of the resource is the block of its driver, which the compiler cannot follow.
    this.connection = openingOf(resource, options, tell) as unknown as Opening<Drivers[Block]>;
  }

  get resource(): ComponentResource {
    return this.#resource;
  }

  /** The same is written somewhere else now. */
  movedTo(resource: ComponentResource): void {
    this.#resource = resource;
  }

  /** Whether the sidecar can be ready, as far as this component goes. */
  get allowsReady(): boolean {
    return !this.connection.required || this.connection.status.state === "ready";
  }

  /** Whether it keeps its data in the data directory. */
  get usesDataDirectory(): boolean {
    return this.#resource.component.type.endsWith(".sqlite");
  }

  /** For metadata and health. */
  get view(): ComponentView {
    const { connection } = this;
    const { name, component, version, source } = this.#resource;
    return {
      name,
      type: component.type,
      version,
      declaredIn: source?.file ?? "",
      required: connection.required,
      capabilities: () =>
        connection.status.state === "ready" ? capabilitiesOf(connection.current().supports) : [],
      status: () => connection.status,
      ping: (signal) => connection.current().ping({ signal }),
    };
  }

  /** Closes it. Never rejects. */
  async close(): Promise<void> {
    const over = new AbortController();
    const late = delay(closeWithinMs, undefined, { signal: over.signal }).then(() => {
      throw new Error(`not closed within ${closeWithinMs} ms`);
    });
    await Promise.race([this.connection.close(), late])
      .catch((err: unknown) => {
        this.#telemetry.log.warn(
          { component: this.#resource.name, err },
          "the component could not be closed",
        );
      })
      .finally(() => {
        late.catch(() => {});
        over.abort();
      });
  }

  #log(
    before: Pick<OpeningStatus, "state" | "message">,
    { state, message }: OpeningStatus,
    err: unknown,
  ): void {
    const { name, component, ignoreErrors } = this.#resource;
    const fields = { component: name, type: component.type };
    const { log } = this.#telemetry;
    // What goes as it should is no news.
    if (state === "ready") log[before.state === "failed" ? "info" : "debug"](fields, "the component is open");
    if (state === "failed") {
      const consequence = ignoreErrors ? "is not needed to be ready" : "keeps the sidecar from being ready";
      const told = `the component could not be opened and ${consequence}; trying again: ${message}`;
      // An error has a stack, which is told once.
      log.warn(message === before.message ? fields : { ...fields, err }, told);
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
    comes: component.comes,
    onChange,
  });
}
