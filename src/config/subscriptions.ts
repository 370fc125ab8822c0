/** Declared subscriptions: what a stream can open by name instead of saying it itself. */
import { Buffer } from "node:buffer";
import { readBoolean } from "./booleans.ts";
import { isInScope } from "./components.ts";
import { subscriptionV1, subscriptionV2 } from "./kinds/subscription.ts";
import type { Resource, Source } from "./resource.ts";
import { locate, type Path, read } from "./shape.ts";
import { didYouMean } from "./suggest.ts";

/** A Subscription resource. */
export interface DeclaredSubscription {
  readonly name: string;
  /** The name of a publish/subscribe component that is loaded. */
  readonly component: string;
  /** Not empty. */
  readonly topic: string;
  /** The first whose rule holds takes the event. */
  readonly routes: readonly DeclaredRoute[];
  /** Where events go that no rule takes; "" when there is no such route. */
  readonly defaultRoute: string;
  /** The rules as they are written: a rule without a match holds for every event. */
  readonly rules: readonly { readonly match: string; readonly path: string }[];
  /** The route, or the default of the rules, as it is written; "" for none. */
  readonly defaultPath: string;
  /** "" when there is none. */
  readonly deadLetterTopic: string;
  /** Its events have no envelope: what was published is the data. */
  readonly raw: boolean;
  /** For the component. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Undefined when it says nothing about it. 0: the default. */
  readonly bulk: DeclaredBulk | undefined;
  readonly source: Source;
}

/** A route and when it is taken. */
export interface DeclaredRoute {
  /** Dapr's `path`; for a stream it is the route's name. 1 to 256 bytes. */
  readonly name: string;
  /** A CEL expression over `event`. */
  readonly rule: string;
}

/** Dapr's `bulkSubscribe`. */
export interface DeclaredBulk {
  readonly enabled: boolean;
  readonly maxMessagesCount: number;
  readonly maxAwaitDurationMs: number;
}

/** What a rule is checked with: says what is wrong with a CEL expression, or undefined. */
export type CheckRule = (rule: string) => string | undefined;

/** What is known of components by their names, when subscriptions are read. */
export interface KnownComponents {
  /** The block of each component that is loaded. */
  readonly loaded: ReadonlyMap<string, string>;
  /** Declared, but not loaded: for other applications, denied, or with a mistake of its own. */
  readonly others: ReadonlySet<string>;
}

/** The limits of the contract, in `proto/outrider/pubsub/v1`. */
const mostRoutes = 64;
const longestRouteBytes = 256;

/** Reads a Subscription; undefined when there is a mistake, or it is not for this application. */
export function readSubscription(
  resource: Resource,
  appId: string | undefined,
  components: KnownComponents,
  checkRule: CheckRule,
): DeclaredSubscription | undefined {
  const value = readEither(resource);
  if (!value) return undefined;
  const { spec } = value;
  let sound = true;
  const at = (path: Path) => locate(resource.root, ["spec", ...path]).at;
  const mistake = (path: Path, message: string) => {
    sound = false;
    resource.mistake(at(path), ["spec", ...path], message);
  };
  if (!isInScope(value.scopes, appId)) {
    const scopesAt = locate(resource.root, ["scopes"]).at;
    resource.note(scopesAt, ["scopes"], `not loaded: it is for other applications than "${appId}"`);
    return undefined;
  }
  const block = components.loaded.get(spec.pubsubname);
  const notLoaded = block === undefined && components.others.has(spec.pubsubname);
  if (notLoaded) {
    const message = `not loaded: "${spec.pubsubname}" is not loaded`;
    resource.note(at(["pubsubname"]), ["spec", "pubsubname"], message);
  } else if (block === undefined) {
    // With daprd, a component may be added later.
    const message = noSuchComponent(spec.pubsubname, components.loaded);
    resource.mistake(at(["pubsubname"]), ["spec", "pubsubname"], message, true);
  } else if (block !== "pubsub") mistake(["pubsubname"], `"${spec.pubsubname}" is a ${block} component`);
  if (spec.topic === "") mistake(["topic"], "must not be empty");

  const routes: DeclaredRoute[] = [];
  const rules = spec.rules.map((rule) => Object.freeze(rule));
  // A rule without a match takes every event, so what follows it takes none.
  const all = rules.findIndex(({ match }) => match.trim() === "");
  const defaultRoute = rules[all]?.path ?? spec.default;
  if (rules.length > mostRoutes) mistake(["routes", "rules"], `must be ${mostRoutes} or fewer`);
  for (const [index, { match, path }] of rules.entries()) {
    const where = ["routes", "rules", index];
    checkRoute(path, [...where, "path"], mistake);
    const problem = match.trim() === "" ? undefined : checkRule(match);
    if (problem !== undefined) mistake([...where, "match"], problem);
    if (all < 0 || index < all) routes.push(Object.freeze({ name: path, rule: match }));
  }
  if (spec.default !== "") checkRoute(spec.default, spec.defaultAt, mistake);
  if (rules.length === 0 && defaultRoute === "")
    mistake(spec.defaultAt, "is required, or no event has a route");
  if (!sound || notLoaded) return undefined;
  return Object.freeze({
    name: resource.name,
    component: spec.pubsubname,
    topic: spec.topic,
    routes: Object.freeze(routes),
    defaultRoute,
    rules: Object.freeze(rules),
    defaultPath: spec.default,
    deadLetterTopic: spec.deadLetterTopic,
    raw: wantsRaw(spec.metadata),
    metadata: Object.freeze(spec.metadata),
    bulk: spec.bulkSubscribe && Object.freeze(spec.bulkSubscribe),
    source: resource.source,
  });
}

/** Whether the metadata of a subscription asks for events without an envelope. */
export function wantsRaw(metadata: Readonly<Record<string, string>>): boolean {
  const text = Object.entries(metadata).find(([name]) => /^(is)?rawpayload$/i.test(name))?.[1];
  return readBoolean(text ?? "") ?? false;
}

/** Both versions, as the second has it. */
function readEither(resource: Resource) {
  if (resource.version === "v1alpha1") {
    const value = read(subscriptionV1, resource.root, [], resource.mistake);
    if (!value) return undefined;
    const { route, ...spec } = value.spec;
    return { scopes: value.scopes, spec: { ...spec, rules: [], default: route, defaultAt: ["route"] } };
  }
  const value = read(subscriptionV2, resource.root, [], resource.mistake);
  if (!value) return undefined;
  const { routes, ...spec } = value.spec;
  return { scopes: value.scopes, spec: { ...spec, ...routes, defaultAt: ["routes", "default"] } };
}

function checkRoute(name: string, path: Path, mistake: (path: Path, message: string) => void): void {
  const bytes = Buffer.byteLength(name);
  if (bytes === 0 || bytes > longestRouteBytes) mistake(path, `must have 1 to ${longestRouteBytes} bytes`);
}

function noSuchComponent(name: string, loaded: ReadonlyMap<string, string>): string {
  const names = [...loaded].filter(([, block]) => block === "pubsub").map(([each]) => each);
  const there = names.length > 0 ? `there are: ${names.join(", ")}` : "there is none";
  return `no publish/subscribe component "${name}"${didYouMean(name, names) || `; ${there}`}`;
}
