/** What is not the same in two configurations. */
import { isDeepStrictEqual } from "node:util";
import type { SidecarConfiguration } from "../assembly.ts";
import type { DeclaredSubscription } from "../config/subscriptions.ts";

/** Names of resources, such as "Component orders". */
export interface Changes {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
}

/** Compares what two configurations load. */
export function changesOf(before: SidecarConfiguration, after: SidecarConfiguration): Changes {
  const [one, other] = [contentOf(before), contentOf(after)];
  const both = [...other.keys()].filter((name) => one.has(name));
  return {
    added: [...other.keys()].filter((name) => !one.has(name)),
    changed: both.filter((name) => !isDeepStrictEqual(one.get(name), other.get(name))),
    removed: [...one.keys()].filter((name) => !other.has(name)),
  };
}

/** Whether two declared subscriptions say the same, wherever they are written. */
export function isSameSubscription(one: DeclaredSubscription, other: DeclaredSubscription): boolean {
  return isDeepStrictEqual({ ...one, source: undefined }, { ...other, source: undefined });
}

/** What is loaded, by kind and name. */
function contentOf(configuration: SidecarConfiguration): ReadonlyMap<string, unknown> {
  const { components, middlewares, secretStoreComponents, subscriptions, others } = configuration;
  return new Map<string, unknown>([
    ...components.map(({ name, fingerprint }) => [`Component ${name}`, fingerprint] as const),
    ...middlewares.map((each) => [`Component ${each.name}`, each] as const),
    ...secretStoreComponents.map((each) => [`Component ${each.name}`, each] as const),
    ...subscriptions.map((each) => [`Subscription ${each.name}`, { ...each, source: undefined }] as const),
    ...others.map(({ kind, name, fingerprint }) => [`${kind} ${name}`, fingerprint] as const),
  ]);
}
