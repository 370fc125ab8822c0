/** Which APIs are open: what a Configuration allows and denies, for Dapr's API and for our own. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { HttpRoute, HttpRoutes } from "../server/http-route.ts";
import type { LateMount, Mount } from "../server/mount.ts";
import { daprTypeName } from "./dapr/contract.ts";
import { nativeTypeNames } from "./native/services.ts";

/** One entry of `spec.api.allowed` or `spec.api.denied`. */
export interface ApiRule {
  readonly name: string;
  /** Such as `v1` or `v1.0-alpha1`; undefined or "": every version. */
  readonly version?: string | undefined;
  /** Undefined: both. */
  readonly protocol?: "http" | "grpc" | undefined;
}

/** The two lists. Empty ones leave everything open. */
export interface ApiRules {
  readonly allowed: readonly ApiRule[];
  readonly denied: readonly ApiRule[];
}

type Protocol = "http" | "grpc";

interface Api {
  readonly name: string;
  /** Undefined for our own services: they have what every version of Dapr's has. */
  readonly version: string | undefined;
}

/** The lists of one protocol. An allowed list closes what it does not name, in its own protocol only, as in Dapr. */
export class ApiAccess {
  readonly #allowed: readonly ApiRule[];
  readonly #denied: readonly ApiRule[];

  constructor(rules: ApiRules, protocol: Protocol) {
    const own = ({ protocol: given }: ApiRule) => given === undefined || given === protocol;
    this.#allowed = rules.allowed.filter(own);
    this.#denied = rules.denied.filter(own);
  }

  /** The mounts, with methods that are closed answering UNIMPLEMENTED. */
  mounts(mounts: readonly (Mount | LateMount)[]): readonly (Mount | LateMount)[] {
    if (this.#allowed.length + this.#denied.length === 0) return mounts;
    return mounts.map((mounted) => {
      if (!("load" in mounted)) return this.#restricted(mounted);
      return { ...mounted, load: async () => this.#restricted(await mounted.load()) };
    });
  }

  #restricted(mounted: Mount): Mount {
    const closed = mounted.service.methods.filter((method) => {
      const api = apiOfMethod(mounted.service.typeName, method.name);
      return api !== undefined && !this.#allows(api);
    });
    const refusals = Object.fromEntries(closed.map(({ localName }) => [localName, refuse]));
    // Of the same methods, which the compiler cannot know.
    const implementation = { ...mounted.implementation, ...refusals } as Mount["implementation"];
    return { ...mounted, implementation };
  }

  /** The routes that are open. */
  routes({ routes, late, ...rest }: HttpRoutes): HttpRoutes {
    const isOpen = ({ path }: HttpRoute) => {
      const api = apiOfPath(path);
      return api === undefined || this.#allows(api);
    };
    return {
      ...rest,
      routes: routes.filter(isOpen),
      ...(late && { late: { ...late, load: async () => (await late.load()).filter(isOpen) } }),
    };
  }

  #allows(api: Api): boolean {
    if (this.#denied.some((rule) => isMeant(rule, api))) return false;
    return this.#allowed.length === 0 || this.#allowed.some((rule) => isMeant(rule, api));
  }
}

function refuse(): never {
  throw new ConnectError("requested endpoint is not available", Code.Unimplemented);
}

function isMeant(rule: ApiRule, api: Api): boolean {
  if (rule.name.toLowerCase() !== api.name) return false;
  return !rule.version || api.version === undefined || versionOf(rule.version) === api.version;
}

/** `v1.0-alpha1`, as paths have it, is `v1alpha1`. */
function versionOf(text: string): string {
  return text
    .toLowerCase()
    .replace(/^v1\.0/, "v1")
    .replace("-", "");
}

/** The API that a path belongs to; undefined for what is always open. */
function apiOfPath(path: string): Api | undefined {
  const [, version, name] = /^\/(v1\.0(?:-\w+)?)\/(\w+)/.exec(path) ?? [];
  if (version === undefined || name === undefined || name === "healthz") return undefined;
  return { name, version: versionOf(version) };
}

const own: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  [nativeTypeNames.state]: { "": "state" },
  [nativeTypeNames.pubsub]: { "": "publish", Subscribe: "subscribe" },
  [nativeTypeNames.runtime]: { "": "metadata", CheckHealth: "", Shutdown: "shutdown" },
};

/** Names of Dapr's methods, without a version, and the API that each belongs to; the first that matches. */
const daprApis: readonly (readonly [RegExp, string])[] = [
  [/^InvokeService$/, "invoke"],
  [/^InvokeBinding$/, "bindings"],
  [/Actor/, "actors"],
  [/State/, "state"],
  [/^SubscribeTopicEvents$/, "subscribe"],
  [/PublishEvent$/, "publish"],
  [/Secret$/, "secrets"],
  [/Configuration$/, "configuration"],
  [/^TryLock$/, "lock"],
  [/^Unlock$/, "unlock"],
  [/^(En|De)crypt$/, "crypto"],
  [/^Subtle/, "subtlecrypto"],
  [/Metadata$/, "metadata"],
  [/Workflow$/, "workflows"],
  [/^Shutdown$/, "shutdown"],
  [/Jobs?(ByPrefix)?$/, "jobs"],
  [/^Converse$/, "conversation"],
];

function apiOfMethod(service: string, method: string): Api | undefined {
  const names = own[service];
  if (names) {
    const name = names[method] ?? names[""];
    return name ? { name, version: undefined } : undefined;
  }
  if (service !== daprTypeName) return undefined;
  const [, base = method, stage = ""] = /^(.*?)((?:Alpha|Beta)\d)?$/.exec(method) ?? [];
  const name = daprApis.find(([pattern]) => pattern.test(base))?.[1];
  // What is of no API that can be named is closed by an allowed list.
  return { name: name ?? base.toLowerCase(), version: `v1${stage.toLowerCase()}` };
}
