/** The components that are to be opened, declared or not. */
import type { output, ZodType } from "zod";
import type { BlockName, Opener } from "../component.ts";
import type { Source } from "./resource.ts";
import { equalFold } from "./shape.ts";

/** The settings that a block itself has in `spec.metadata`, beside those of the component: a schema for each. */
export type BlockSchemas = Readonly<Record<BlockName, ZodType>>;

/** A component that is to be opened, as one type for each block. */
export type ComponentResource<Schemas extends BlockSchemas = BlockSchemas> = {
  [Block in BlockName]: ComponentResourceOf<Block, Schemas>;
}[BlockName];

/** A component of one block that is to be opened. */
export interface ComponentResourceOf<Block extends BlockName, Schemas extends BlockSchemas = BlockSchemas> {
  /** What applications call it by. */
  readonly name: string;
  readonly block: Block;
  readonly component: Opener<Block>;
  /** One of `component.versions`. */
  readonly version: string;
  /** What the component's schema made of the metadata; for `component.configure`. */
  readonly settings: unknown;
  /** What the block's schema made of the metadata. */
  readonly blockSettings: output<Schemas[Block]>;
  /** True: the sidecar gets ready without it. */
  readonly ignoreErrors: boolean;
  /** How long opening it may take, in milliseconds, more than 0. */
  readonly initTimeoutMs: number;
  /** Undefined for a component that nobody declared. */
  readonly source: Source | undefined;
  /** The same for the same type, version, settings and secrets, wherever they are written: what is open need not be opened again. */
  readonly fingerprint: string;
}

/** `initTimeout` where none is given, as in Dapr. */
export const defaultInitTimeoutMs = 5000;

/** What there is of a block of which the YAML declares nothing. No schema is needed for it: that of its settings takes its time. */
export type DefaultComponent<Schemas extends BlockSchemas = BlockSchemas> = {
  [Block in BlockName]: {
    readonly component: Opener<Block>;
    /** What its schema makes of no metadata. */
    readonly settings: unknown;
    /** What the block's schema makes of no metadata. */
    readonly blockSettings: output<Schemas[Block]>;
  };
}[BlockName];

/** Whether a resource with these scopes is for an application; every one is when nobody asks for one. */
export function isInScope(scopes: readonly string[], appId: string | undefined): boolean {
  return appId === undefined || scopes.length === 0 || scopes.includes(appId);
}

/** Whether an entry of `components.deny` means a type: it is the type, or `type/version`. */
export function isDenied(type: string, version: string, entry: string): boolean {
  return equalFold(entry, type) || equalFold(entry, `${type}/${version}`);
}

/** See `ComponentResourceOf.fingerprint`; `metadata` is what stands for settings and secrets. */
export function fingerprintOf(
  {
    type,
    ignoreErrors,
    initTimeout,
  }: { readonly type: string; readonly ignoreErrors: boolean; readonly initTimeout: number },
  version: string,
  metadata: string,
): string {
  return JSON.stringify([type, version, ignoreErrors, initTimeout, metadata]);
}

/**
 * The components that nobody declared. A block of which the YAML declares any
 * component gets none, even if that one is for other applications: whoever
 * declares has chosen, and a store that appears beside the chosen one would
 * take data that nobody looks for there.
 */
export function defaultComponents<Schemas extends BlockSchemas>(
  declaredBlocks: ReadonlySet<string>,
  deny: readonly string[],
  defaults: readonly DefaultComponent<Schemas>[],
): readonly ComponentResource<Schemas>[] {
  return defaults.flatMap(({ component, settings, blockSettings }) => {
    const { block, type, versions } = component;
    const version = versions[0]!;
    if (declaredBlocks.has(block) || deny.some((entry) => isDenied(type, version, entry))) return [];
    const resource = Object.freeze({
      // Called like the block.
      name: block,
      block,
      component,
      version,
      settings,
      blockSettings,
      ignoreErrors: false,
      initTimeoutMs: defaultInitTimeoutMs,
      source: undefined,
      fingerprint: fingerprintOf(
        { type, ignoreErrors: false, initTimeout: defaultInitTimeoutMs },
        version,
        "",
      ),
    });
    // The block names the component and its settings, which the compiler cannot follow.
    return [resource as ComponentResource<Schemas>];
  });
}
