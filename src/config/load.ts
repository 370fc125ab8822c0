/** Configuration in, checked as a whole before anything opens. */
import type { Component, LateComponent } from "../component.ts";
import {
  type BlockSchemas,
  type ComponentResource,
  type DefaultComponent,
  defaultComponents,
} from "./components.ts";
import type { DeclaredComponents, DeclaredOptions, FindForeignTypes } from "./declared-components.ts";
import { type ReadFile, readFiles } from "./files.ts";
import type { MiddlewareResource } from "./middlewares.ts";
import type { OtherResource, OtherResources } from "./other-resources.ts";
import { type Remark, Remarks } from "./remarks.ts";
import { ComponentPolicies } from "./resiliency.ts";
import type { Resource } from "./resource.ts";
import { type Environment, type SecretStore, Secrets } from "./secrets.ts";
import { Configured, type Settings } from "./settings.ts";
import { locate } from "./shape.ts";
import type { CheckRule, DeclaredSubscription, KnownComponents } from "./subscriptions.ts";
import { type Identity, Values } from "./values.ts";

/** What a configuration is made of. */
export interface LoadOptions<Schemas extends BlockSchemas> {
  /** `--resources-path`: directories and files. */
  readonly resourcesPaths: readonly string[];
  /** `--config`: files, of which later ones replace fields of `spec` of earlier ones. */
  readonly configPaths: readonly string[];
  /** The application's id, for scopes and templates. */
  readonly appId: string;
  /**
   * For `NAMESPACE`, which leaves out resources of other namespaces, for `POD_NAME`,
   * and for what the files refer to. Nothing else is read from it.
   */
  readonly environment: Environment;
  /** The components of this build. */
  readonly components: readonly (Component | LateComponent)[];
  /** What types are that are not among `components`, and can only be known now. Without it: mistakes. */
  readonly foreignTypes?: FindForeignTypes;
  /** For each block, the schema of the settings that it has in every component's `spec.metadata`; asked for when one is declared. */
  readonly blockSettings: () => Promise<Schemas>;
  /** What there is of blocks of which nobody declares a component. */
  readonly defaults: readonly DefaultComponent<Schemas>[];
  /**
   * As daprd reads: what it passes over is a note, not a mistake, and there is nothing that nobody declared.
   * Default false.
   */
  readonly tolerant?: boolean;
  /** Says what is wrong with a routing rule; without it, rules are not checked. */
  readonly checkRule?: CheckRule;
  /** Says what is wrong with the settings of one component beside the others, such as a name that none of them has. */
  readonly checkTogether?: CheckTogether<Schemas>;
}

/** See `LoadOptions.checkTogether`. Each mistake names a component, and a field of its `spec.metadata`. */
export type CheckTogether<Schemas extends BlockSchemas> = (
  components: readonly ComponentResource<Schemas>[],
) => readonly { readonly component: string; readonly field: string; readonly message: string }[];

/** A sound configuration. Frozen. */
export interface Configuration<Schemas extends BlockSchemas = BlockSchemas> {
  /** To be opened. Declared ones first, in the order of the files; then those that nobody declared. */
  readonly components: readonly ComponentResource<Schemas>[];
  /** Components that nobody opens: of the HTTP pipelines, and secret stores. */
  readonly middlewares: readonly MiddlewareResource[];
  readonly secretStoreComponents: readonly { name: string; type: string; version: string }[];
  readonly subscriptions: readonly DeclaredSubscription[];
  readonly settings: Settings;
  /** What Resiliency resources say of components. */
  readonly policies: ComponentPolicies;
  /** Resources of other kinds, which are not used yet, or in part. */
  readonly others: readonly OtherResource[];
  /** What the operator may want to know: what was ignored, not loaded, or is not used yet. */
  readonly notes: readonly Remark[];
  /** The secret stores, by component name, for applications to read. */
  readonly secretStores: ReadonlyMap<string, SecretStore>;
  /** Every value that came from a reference, for logs to redact. */
  readonly secrets: ReadonlySet<string>;
}

/** The documents of the files, before anything is made of them. */
export interface Documents {
  readonly remarks: Remarks;
  /** In the order in which they were read. */
  readonly files: readonly string[];
  /** Everything that is no Configuration. */
  readonly resources: readonly Resource[];
  readonly configurations: readonly Resource[];
}

/** Reads and checks a configuration. Throws ConfigError with every mistake that there is. */
export async function load<Schemas extends BlockSchemas>(
  options: LoadOptions<Schemas>,
): Promise<Configuration<Schemas>> {
  const remarks = new Remarks(options.tolerant);
  const configFiles = await readFiles(options.configPaths, remarks);
  const resourceFiles = await readFiles(options.resourcesPaths, remarks);
  const given = new Set(configFiles.map(({ real }) => real));
  const listed = new Set(resourceFiles.map(({ real }) => real));
  const resources: Resource[] = [];
  for (const file of resourceFiles) {
    if (!given.has(file.real)) resources.push(...(await documentsOf(file, remarks)));
  }
  const configurations: Resource[] = [];
  for (const file of configFiles) {
    for (const resource of await documentsOf(file, remarks)) {
      const { kind, root, mistake } = resource;
      if (kind === "Configuration") configurations.push(resource);
      else if (listed.has(file.real)) resources.push(resource);
      else mistake(root.at, [], `a ${kind} is not read from a --config file; it belongs in --resources-path`);
    }
  }
  for (const resource of resources) {
    if (resource.kind !== "Configuration") continue;
    await new Configured().add(resource, options.environment);
    resource.note(resource.root.at, [], "checked, and not used: a Configuration is read from --config only");
  }
  return assemble(options, {
    remarks,
    files: [...configFiles, ...resourceFiles].map(({ path }) => path),
    resources: resources.filter(({ kind }) => kind !== "Configuration"),
    configurations,
  });
}

/** Our resources in a file. */
export async function documentsOf(file: ReadFile, remarks: Remarks): Promise<readonly Resource[]> {
  // A sidecar without a file does without the parser, and without the shapes of what is in files.
  const [{ readText }, { resourcesOf }] = await Promise.all([import("./yaml.ts"), import("./resource.ts")]);
  return resourcesOf(file.path, readText(file.text), remarks);
}

/** Makes a configuration of documents. Throws ConfigError. `appId` undefined: for every application. */
export async function assemble<Schemas extends BlockSchemas>(
  options: Pick<
    LoadOptions<Schemas>,
    | "environment"
    | "components"
    | "foreignTypes"
    | "blockSettings"
    | "defaults"
    | "tolerant"
    | "checkRule"
    | "checkTogether"
  > & {
    readonly appId: string | undefined;
  },
  documents: Documents,
): Promise<Configuration<Schemas>> {
  const { appId, environment, checkRule = () => undefined, checkTogether = () => [] } = options;
  const { remarks } = documents;
  const configured = new Configured();
  for (const resource of documents.configurations) await configured.add(resource, environment);

  const resources = withoutRepeated(documents.resources.filter((each) => isInNamespace(each, environment)));
  const secrets = new Secrets(environment);
  const values = new Values(identity(appId, environment), secrets);
  const declarations = ofKind(resources, "Component");
  const declared = await readDeclared(declarations, configured.deny, options, secrets, values);
  const settings = configured.settings(values, secrets);
  const components = [
    ...declared.components,
    ...(options.tolerant ? [] : defaultComponents(blocksOf(declarations), configured.deny, options.defaults)),
  ];

  for (const { component, field, message } of checkTogether(components)) {
    const resource = declarations.find(({ name }) => name === component)!;
    const path = ["spec", "metadata"];
    resource.mistake(locate(resource.root, path).at, path, `${field}: ${message}`);
  }

  const known = knownComponents(declarations, declared, components);
  const subscriptions = await readSubscriptions(ofKind(resources, "Subscription"), appId, known, checkRule);
  const others = await readOthers(resources, appId);
  remarks.throwIfAny(documents.files);
  return Object.freeze({
    components: Object.freeze(components),
    middlewares: Object.freeze(declared.middlewares),
    secretStoreComponents: Object.freeze(declared.secretStores),
    subscriptions: Object.freeze(subscriptions),
    settings,
    policies: new ComponentPolicies(others.resiliencies),
    others: Object.freeze(others.resources),
    notes: Object.freeze(remarks.notes(documents.files)),
    secretStores: secrets.stores,
    secrets: secrets.resolved,
  });
}

async function readDeclared<Schemas extends BlockSchemas>(
  resources: readonly Resource[],
  deny: readonly string[],
  options: DeclaredOptions<Schemas>,
  secrets: Secrets,
  values: Values,
): Promise<DeclaredComponents<Schemas>> {
  if (resources.length === 0)
    return { components: [], middlewares: [], secretStores: [], unopened: new Map() };
  // The shapes of what can be declared are a sixth of a start without them.
  const { readComponents } = await import("./declared-components.ts");
  return readComponents(resources, deny, options, secrets, values);
}

async function readSubscriptions(
  resources: readonly Resource[],
  appId: string | undefined,
  known: KnownComponents,
  checkRule: CheckRule,
): Promise<readonly DeclaredSubscription[]> {
  if (resources.length === 0) return [];
  // Most sidecars have none, as with the others.
  const { readSubscription } = await import("./subscriptions.ts");
  return resources.flatMap((each) => readSubscription(each, appId, known, checkRule) ?? []);
}

/** Reads what is neither a Component nor a Subscription. */
async function readOthers(
  resources: readonly Resource[],
  appId: string | undefined,
): Promise<OtherResources> {
  const others = resources.filter(({ kind }) => kind !== "Component" && kind !== "Subscription");
  if (others.length === 0) return { resources: [], resiliencies: [] };
  // Their shapes are large, and few have any.
  const { readOtherResources } = await import("./other-resources.ts");
  return readOtherResources(others, appId);
}

function identity(appId: string | undefined, environment: Environment): Identity {
  return {
    appId: appId ?? "app",
    namespace: environment["NAMESPACE"] || "default",
    podName: environment["POD_NAME"] || undefined,
  };
}

function ofKind(resources: readonly Resource[], kind: Resource["kind"]): readonly Resource[] {
  return resources.filter((each) => each.kind === kind);
}

/** A resource and a sidecar that both say a namespace must say the same. */
function isInNamespace(resource: Resource, environment: Environment): boolean {
  const namespace = environment["NAMESPACE"] ?? "";
  if (namespace === "" || resource.namespace === "" || resource.namespace === namespace) return true;
  const { at } = locate(resource.root, ["metadata", "namespace"]);
  resource.note(at, ["metadata", "namespace"], `not loaded: this sidecar's namespace is "${namespace}"`);
  return false;
}

/** Each name of a kind once; a second is a mistake. */
function withoutRepeated(resources: readonly Resource[]): readonly Resource[] {
  const first = new Map<string, Resource>();
  return resources.filter((resource) => {
    const key = `${resource.kind}/${resource.name}`;
    const other = first.get(key);
    if (!other || resource.name === "") {
      first.set(key, resource);
      return true;
    }
    const { at } = locate(resource.root, ["metadata", "name"]);
    const { file, line } = other.source;
    resource.mistake(at, ["metadata", "name"], `another ${resource.kind} has this name, at ${file}:${line}`);
    return false;
  });
}

/** The blocks of which any component is declared, for whichever application. */
function blocksOf(declarations: readonly Resource[]): ReadonlySet<string> {
  const types = declarations.map(({ root }) => {
    const { tree } = locate(root, ["spec", "type"]);
    return tree?.kind === "scalar" ? tree.source : "";
  });
  return new Set(types.map((type) => type.split(".", 1)[0]!));
}

function knownComponents(
  declarations: readonly Resource[],
  declared: DeclaredComponents<BlockSchemas>,
  components: readonly ComponentResource[],
): KnownComponents {
  const loaded = new Map<string, string>(components.map(({ name, block }) => [name, block]));
  for (const [name, what] of declared.unopened) loaded.set(name, what);
  const others = declarations.filter(({ name }) => !loaded.has(name));
  return { loaded, others: new Set(others.map(({ name }) => name)) };
}
