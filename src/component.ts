/** What a component is: a technology behind a block, as a value in a list. */
import type { ZodType } from "zod";
import type { PubSubDriver } from "./blocks/pubsub/driver.ts";
import type { StateDriver } from "./blocks/state/driver.ts";
import type { Telemetry } from "./telemetry/telemetry.ts";

/** The drivers of each block that has components. */
export interface Drivers {
  readonly state: StateDriver;
  readonly pubsub: PubSubDriver;
}

/** A block that has components, such as "state". */
export type BlockName = keyof Drivers;

/** What a component may know of the sidecar that opens it. */
export interface OpenContext {
  /** The component's name in its YAML. */
  readonly name: string;
  /** The version in its YAML: one of the component's `versions`. */
  readonly version: string;
  /** The application's id. */
  readonly appId: string;
  /** Another for every start of a sidecar, and for each time that the component is replaced. */
  readonly instanceId: string;
  /** Where embedded stores keep their files: an absolute path, which may not exist yet. */
  readonly dataDirectory: string;
  /**
   * For what no call's answer can tell: a group that had to be made again, how long commits take.
   * The log names the component already; what a driver throws is not logged by it.
   */
  readonly telemetry: Pick<Telemetry, "log" | "metrics">;
  /** Gives up opening when it aborts; it says nothing about the life of the driver. */
  readonly signal: AbortSignal;
}

/** Opens a driver whose settings have been checked already. */
export type Open<Driver> = (context: OpenContext) => Promise<Driver>;

/** A technology that can stand behind a block. */
export type Component = { [Block in BlockName]: ComponentOf<Block> }[BlockName];

/** A component that is loaded when a resource names its type: most types are named by none. */
export interface LateComponent {
  readonly type: string;
  /** Rejects when a file of the program cannot be read. */
  readonly load: () => Promise<Component>;
}

/** The component itself, loaded if need be. */
export async function loaded(component: Component | LateComponent): Promise<Component> {
  return "load" in component ? await component.load() : component;
}

/** A component of one block whose settings are known: all that it takes to open it. */
export interface Opener<Block extends BlockName> {
  /** The block, which is the first part of the type. */
  readonly block: Block;
  /** What users write as `spec.type`, such as "state.redis". Never renamed. */
  readonly type: string;
  /** What users may write as `spec.version`; the first is the default. */
  readonly versions: readonly string[];
  /** Takes what the schema made of the metadata; opens nothing yet. */
  configure(settings: unknown): Open<Drivers[Block]>;
  /**
   * Resolves when what it connects to has come since the call, so that opening it is worth another attempt at once;
   * and when the signal aborts. Never rejects. Absent: there is no telling.
   */
  readonly comes?: ((signal: AbortSignal) => Promise<void>) | undefined;
}

/** A component of one block, and what its YAML may say. */
export interface ComponentOf<Block extends BlockName> extends Opener<Block> {
  /** The fields of `spec.metadata`: an object schema, whose keys are the fields' names. */
  readonly schema: ZodType<unknown>;
}

/** What opens a component. */
export interface OpenerDefinition<Block extends BlockName, Settings> {
  readonly type: `${Block}.${string}`;
  readonly versions: readonly string[];
  /** Connects, and resolves to a driver that is ready to serve. Gives up when the signal aborts. */
  open(settings: Settings, context: OpenContext): Promise<Drivers[Block]>;
  /** See `Opener.comes`. */
  readonly comes?: (signal: AbortSignal) => Promise<void>;
}

/** Makes what opens a component. */
export function opener<Block extends BlockName, Settings>(
  definition: OpenerDefinition<Block, Settings>,
): Opener<Block> {
  const { type, versions, open, comes } = definition;
  return {
    block: type.slice(0, type.indexOf(".")) as Block,
    type,
    versions,
    configure: (settings) => (context) => open(settings as Settings, context),
    comes,
  };
}

/** Makes a component of a schema and of what opens it. Settings are typed by the schema. */
export function component<Block extends BlockName, Settings>(
  definition: OpenerDefinition<Block, Settings> & { readonly schema: ZodType<Settings> },
): ComponentOf<Block> {
  return { ...opener(definition), schema: definition.schema };
}
