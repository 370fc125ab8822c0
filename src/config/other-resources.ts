/** Resources of kinds that are checked, and not used yet or in part. */
import { isInScope } from "./components.ts";
import { type LaterKind, laterKinds, resiliency } from "./kinds/later.ts";
import { type ResiliencySpec, unusedOf } from "./resiliency.ts";
import type { Resource, Source } from "./resource.ts";
import { locate, read } from "./shape.ts";
import { plain } from "./tree.ts";

/** One of them, without a mistake. */
export interface OtherResource {
  readonly kind: LaterKind;
  readonly name: string;
  readonly source: Source;
  /** The same for the same content, wherever it is written. */
  readonly fingerprint: string;
}

/** What was read. */
export interface OtherResources {
  readonly resources: readonly OtherResource[];
  readonly resiliencies: readonly ResiliencySpec[];
}

/** Checks resources, and says of each what of it is not used yet. */
export function readOtherResources(all: readonly Resource[], appId: string | undefined): OtherResources {
  const resiliencies: ResiliencySpec[] = [];
  const resources = all.flatMap((each) => readOther(each, appId, resiliencies) ?? []);
  return { resources, resiliencies };
}

/** One of them. Adds to `resiliencies`. */
function readOther(
  resource: Resource,
  appId: string | undefined,
  resiliencies: ResiliencySpec[],
): OtherResource | undefined {
  const { kind, name, source, root } = resource;
  if (!Object.hasOwn(laterKinds, kind)) return undefined;
  const later = kind as LaterKind;
  const policies = later === "Resiliency" ? read(resiliency, root, [], resource.mistake) : undefined;
  const value = policies ?? read(laterKinds[later], root, [], resource.mistake);
  if (!value || !isInScope(value.scopes, appId)) return undefined;
  if (policies) {
    resiliencies.push(policies.spec);
    for (const path of unusedOf(policies.spec))
      resource.note(locate(root, path).at, path, "checked, not used yet");
  } else {
    resource.note(root.at, [], "checked, not used yet");
  }
  return Object.freeze({ kind: later, name, source, fingerprint: JSON.stringify(plain(root)) });
}
