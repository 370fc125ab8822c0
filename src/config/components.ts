/** Component resources: which are for this application, and what their metadata says. */
import type { ZodType } from "zod";
import * as z from "zod";
import type { BlockName, Component, ComponentOf } from "../component.ts";
import { flag, goDurationMs, text } from "./fields.ts";
import { Metadata } from "./metadata.ts";
import { type Resource, type Source, scoped } from "./resource.ts";
import { type Environment, environmentStore, fileStore, type Secrets, secretStoreTypes } from "./secrets.ts";
import { checkedOnce, equalFold, locate, read } from "./shape.ts";
import { didYouMean } from "./suggest.ts";
import { nameValue, type Values } from "./values.ts";

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
  readonly component: ComponentOf<Block>;
  /** One of `component.versions`. */
  readonly version: string;
  /** What `component.schema` made of the metadata; for `component.configure`. */
  readonly settings: unknown;
  /** What the block's schema made of the metadata. */
  readonly blockSettings: z.output<Schemas[Block]>;
  /** True: the sidecar gets ready without it. */
  readonly ignoreErrors: boolean;
  /** How long opening it may take, in milliseconds, more than 0. */
  readonly initTimeoutMs: number;
  /** Undefined for a component that nobody declared. */
  readonly source: Source | undefined;
  /** The same for the same type, version, settings and secrets, wherever they are written: what is open need not be opened again. */
  readonly fingerprint: string;
}

/** What a type is: a component, or why there is none. */
export type FoundType =
  | {
      readonly component: Component;
      /** For the operator. */
      readonly note?: string;
    }
  | { readonly problem: string };

/** What the types are that resources name, and those of components that nobody declares. */
export interface Types {
  readonly found: ReadonlyMap<string, FoundType>;
  /** All that this build has. */
  readonly known: readonly string[];
}

/** `initTimeout` where none is given, as in Dapr. */
export const defaultInitTimeoutMs = 5000;

const shape = z.object({
  ...scoped,
  auth: z.object({ secretStore: text().default("") }).optional(),
  spec: z.object({
    type: text(),
    version: text().default(""),
    ignoreErrors: flag().default(false),
    initTimeout: goDurationMs().default(defaultInitTimeoutMs),
    metadata: z.array(nameValue).default([]),
  }),
});

/** A Component whose shape is right, and which is for this application. */
export interface Declared {
  readonly resource: Resource;
  readonly spec: z.output<typeof shape>["spec"];
  /** `auth.secretStore`, or "". */
  readonly storeName: string;
}

/** Whether a resource with these scopes is for an application; every one is when nobody asks for one. */
export function isInScope(scopes: readonly string[], appId: string | undefined): boolean {
  return appId === undefined || scopes.length === 0 || scopes.includes(appId);
}

/** The Components that are to be loaded; undefined for a mistake, or for another application, or denied. */
export function declare(
  resource: Resource,
  appId: string | undefined,
  deny: readonly string[],
): Declared | undefined {
  const value = read(shape, resource.root, [], resource.mistake);
  if (!value) return undefined;
  const { spec } = value;
  const at = (...path: string[]) => locate(resource.root, path).at;
  if (!isInScope(value.scopes, appId)) {
    resource.note(at("scopes"), ["scopes"], `not loaded: it is for other applications than "${appId}"`);
    return undefined;
  }
  if (deny.some((entry) => isDenied(spec.type, spec.version || "v1", entry))) {
    resource.note(at("spec", "type"), ["spec", "type"], `not loaded: components.deny has "${spec.type}"`);
    return undefined;
  }
  if (spec.initTimeout === 0) {
    resource.mistake(at("spec", "initTimeout"), ["spec", "initTimeout"], "must be more than 0");
    return undefined;
  }
  return { resource, spec, storeName: value.auth?.secretStore ?? "" };
}

/** An entry is a type, or `type/version`. */
function isDenied(type: string, version: string, entry: string): boolean {
  return equalFold(entry, type) || equalFold(entry, `${type}/${version}`);
}

/** Whether a Component declares a secret store of this build. */
export function isSecretStore({ spec }: Declared): boolean {
  return Object.hasOwn(secretStoreTypes, spec.type);
}

/** Reads the secret stores among the components, so that references can be resolved. */
export async function addSecretStores(
  declared: readonly Declared[],
  secrets: Secrets,
  values: Values,
  environment: Environment,
): Promise<void> {
  for (const { resource, spec } of declared) {
    const settings = (schema: ZodType) =>
      // Its own references could wait for it, so it has no store to look in.
      new Metadata(resource, spec.type, [schema], spec.metadata, "", values);
    if (spec.type === "secretstores.local.env") {
      const schema = secretStoreTypes[spec.type];
      const parsed = settings(schema).parse(schema);
      secrets.add(resource.name, parsed && environmentStore(parsed.prefix, environment));
    } else if (spec.type === "secretstores.local.file") {
      const schema = secretStoreTypes[spec.type];
      const parsed = settings(schema).parse(schema);
      const store = parsed && (await fileStore(parsed));
      if (store && "problem" in store) {
        const { at } = locate(resource.root, ["spec", "metadata"]);
        resource.mistake(at, ["spec", "metadata"], `secretsFile: ${store.problem}`);
      }
      secrets.add(resource.name, store && "problem" in store ? undefined : store);
    }
  }
}

/** The component of a Component resource, or undefined when there is a mistake or it can do without. */
export function configure<Schemas extends BlockSchemas>(
  { resource, spec, storeName }: Declared,
  types: Types,
  blockSettings: Schemas,
  values: Values,
): ComponentResource<Schemas> | undefined {
  const found = types.found.get(spec.type) ?? { problem: "" };
  const typeAt = () => locate(resource.root, ["spec", "type"]).at;
  if ("problem" in found) {
    const report = spec.ignoreErrors ? resource.note : resource.mistake;
    const at = typeAt();
    const also = found.problem === "" ? "" : `; ${found.problem}`;
    const message = noSuchType(spec.type, types.known) + also;
    report(at, ["spec", "type"], spec.ignoreErrors ? `not loaded, ignoreErrors is set: ${message}` : message);
    return undefined;
  }
  const { component, note } = found;
  if (note !== undefined) resource.note(typeAt(), ["spec", "type"], note);
  const version = spec.version || component.versions[0]!;
  const knownVersion = component.versions.includes(version);
  if (!knownVersion) {
    const { at } = locate(resource.root, ["spec", "version"]);
    const message = `unknown version "${version}" of ${spec.type}; there are: ${component.versions.join(", ")}`;
    resource.mistake(at, ["spec", "version"], message);
  }
  const blockSchema = blockSettings[component.block];
  const schemas = [component.schema, blockSchema];
  const metadata = new Metadata(resource, spec.type, schemas, spec.metadata, storeName, values);
  const settings = metadata.parse(component.schema);
  const ofBlock = metadata.parse(blockSchema);
  if (settings === undefined || ofBlock === undefined || !knownVersion) return undefined;
  return Object.freeze({
    name: resource.name,
    block: component.block,
    component,
    version,
    settings,
    blockSettings: ofBlock,
    ignoreErrors: spec.ignoreErrors,
    initTimeoutMs: spec.initTimeout,
    source: resource.source,
    fingerprint: fingerprintOf(spec, version, metadata.fingerprint),
    // The block names both the component and the schema, which the compiler cannot follow.
  }) as ComponentResource<Schemas>;
}

const defaultSpec = { ignoreErrors: false, initTimeout: defaultInitTimeoutMs } as const;

function fingerprintOf(
  { type, ignoreErrors, initTimeout }: Pick<Declared["spec"], "type" | "ignoreErrors" | "initTimeout">,
  version: string,
  metadata: string,
): string {
  return JSON.stringify([type, version, ignoreErrors, initTimeout, metadata]);
}

function noSuchType(type: string, known: readonly string[]): string {
  const types = [...known, ...Object.keys(secretStoreTypes)];
  const suggestion = didYouMean(type, types);
  if (suggestion !== "") return `no component of type "${type}" in this build${suggestion}`;
  const block = type.slice(0, type.indexOf(".") + 1);
  const ofBlock = types.filter((each) => block !== "" && each.startsWith(block));
  const there = (ofBlock.length > 0 ? ofBlock : types).join(", ");
  return `no component of type "${type}" in this build; there are: ${there}`;
}

/** The components that exist when no YAML declares one of their block: named like the block, of this type. */
export const defaultTypes: Readonly<Record<BlockName, string>> = {
  state: "state.sqlite",
  pubsub: "pubsub.sqlite",
};

/**
 * The components that nobody declared. A block of which the YAML declares any
 * component gets none, even if that one is for other applications: whoever
 * declares has chosen, and a store that appears beside the chosen one would
 * take data that nobody looks for there.
 */
export function defaultComponents<Schemas extends BlockSchemas>(
  declaredBlocks: ReadonlySet<string>,
  deny: readonly string[],
  types: Types,
  blockSettings: Schemas,
): readonly ComponentResource<Schemas>[] {
  return Object.values(defaultTypes).flatMap((type) => {
    const found = types.found.get(type);
    if (!found || "problem" in found) return [];
    const { component } = found;
    const { block } = component;
    if (declaredBlocks.has(block)) return [];
    if (deny.some((entry) => isDenied(type, component.versions[0]!, entry))) return [];
    const resource = Object.freeze({
      name: block,
      block,
      component,
      version: component.versions[0]!,
      settings: component.schema.parse({}, checkedOnce),
      blockSettings: blockSettings[block].parse({}, checkedOnce),
      ignoreErrors: defaultSpec.ignoreErrors,
      initTimeoutMs: defaultSpec.initTimeout,
      source: undefined,
      fingerprint: fingerprintOf({ type, ...defaultSpec }, component.versions[0]!, ""),
    });
    return [resource as ComponentResource<Schemas>];
  });
}
