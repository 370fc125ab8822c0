/** Component resources: which are for this application, and what their metadata says. */
import type { ZodType } from "zod";
import * as z from "zod";
import { type Component, type LateComponent, loaded } from "../component.ts";
import {
  type BlockSchemas,
  type ComponentResource,
  defaultInitTimeoutMs,
  fingerprintOf,
  isDenied,
  isInScope,
} from "./components.ts";
import { flag, goDurationMs, text } from "./fields.ts";
import { Metadata } from "./metadata.ts";
import { isMiddleware, type MiddlewareResource, readMiddleware } from "./middlewares.ts";
import { nameValue } from "./name-value.ts";
import { type Resource, scoped } from "./resource.ts";
import { secretStoreTypes } from "./secret-store-types.ts";
import { type Environment, environmentStore, fileStore, type Secrets } from "./secrets.ts";
import { locate, read } from "./shape.ts";
import { didYouMean } from "./suggest.ts";
import type { Values } from "./values.ts";

/** What a type is: a component, or why there is none. */
export type FoundType =
  | {
      readonly component: Component;
      /** For the operator. */
      readonly note?: string;
    }
  | { readonly problem: string };

/** What the types are that resources name. */
interface Types {
  readonly found: ReadonlyMap<string, FoundType>;
  /** All that this build has. */
  readonly known: readonly string[];
}

/** What Component resources are read with. */
export interface DeclaredOptions<Schemas extends BlockSchemas> {
  /** Undefined: for every application. */
  readonly appId: string | undefined;
  readonly environment: Environment;
  readonly components: readonly (Component | LateComponent)[];
  readonly foreignTypes?: FindForeignTypes | undefined;
  readonly blockSettings: () => Promise<Schemas>;
}

/** What types are that this build has not, and can only be known now. */
export type FindForeignTypes = (
  types: readonly string[],
  environment: Environment,
) => Promise<ReadonlyMap<string, FoundType>>;

/** What became of the Component resources. */
export interface DeclaredComponents<Schemas extends BlockSchemas> {
  /** To be opened, in the order of the resources. */
  readonly components: readonly ComponentResource<Schemas>[];
  readonly middlewares: readonly MiddlewareResource[];
  readonly secretStores: readonly {
    readonly name: string;
    readonly type: string;
    readonly version: string;
  }[];
  /** What those are that nobody opens, by name, also where there is a mistake in them. */
  readonly unopened: ReadonlyMap<string, "secret store" | "middleware">;
}

/** Reads Component resources; adds the secret stores among them to `secrets`, so that references can be resolved. */
export async function readComponents<Schemas extends BlockSchemas>(
  resources: readonly Resource[],
  deny: readonly string[],
  { appId, environment, components, foreignTypes, blockSettings }: DeclaredOptions<Schemas>,
  secrets: Secrets,
  values: Values,
): Promise<DeclaredComponents<Schemas>> {
  const declared = resources.flatMap((each) => declare(each, appId, deny) ?? []);
  const stores = declared.filter(isSecretStore);
  const middlewares = declared.filter(isMiddleware);
  await addSecretStores(stores, secrets, values, environment);
  const opened = declared.filter((each) => !stores.includes(each) && !middlewares.includes(each));
  const named = new Set(opened.map(({ spec }) => spec.type));
  const types = await findTypes(named, components, foreignTypes, environment);
  const schemas = await blockSettings();
  return {
    components: opened.flatMap((each) => configure(each, types, schemas, values) ?? []),
    middlewares: middlewares.flatMap((each) => readMiddleware(each, values) ?? []),
    secretStores: stores.map(({ resource, spec }) => ({
      name: resource.name,
      type: spec.type,
      version: spec.version || "v1",
    })),
    unopened: new Map([
      ...stores.map(({ resource }) => [resource.name, "secret store"] as const),
      ...middlewares.map(({ resource }) => [resource.name, "middleware"] as const),
    ]),
  };
}

async function findTypes(
  named: ReadonlySet<string>,
  components: readonly (Component | LateComponent)[],
  foreignTypes: FindForeignTypes | undefined,
  environment: Environment,
): Promise<Types> {
  const known = components.map(({ type }) => type);
  const found = new Map<string, FoundType>();
  for (const each of components) {
    if (named.has(each.type)) found.set(each.type, { component: await loaded(each) });
  }
  const foreign = [...named].filter((type) => !known.includes(type));
  if (foreign.length > 0 && foreignTypes) {
    for (const [type, what] of await foreignTypes(foreign, environment)) found.set(type, what);
  }
  return { found, known };
}

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

/** The Components that are to be loaded; undefined for a mistake, or for another application, or denied. */
function declare(
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

function isSecretStore({ spec }: Declared): boolean {
  return Object.hasOwn(secretStoreTypes, spec.type);
}

/** Reads the secret stores among the components, so that references can be resolved. */
async function addSecretStores(
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
function configure<Schemas extends BlockSchemas>(
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
  }) as unknown as ComponentResource<Schemas>;
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
