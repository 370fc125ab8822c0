/** Which documents are resources of ours, and what all kinds have in common. */
import * as z from "zod";
import { text } from "./fields.ts";
import type { Remarks } from "./remarks.ts";
import { find, formatPath, locate, type Reporter, read } from "./shape.ts";
import { didYouMean, nearest } from "./suggest.ts";
import type { Text, Tree } from "./tree.ts";

/** Every kind, and the versions of it that are read. They are Dapr's. */
export const kinds = {
  Component: ["v1alpha1"],
  Subscription: ["v2alpha1", "v1alpha1"],
  Configuration: ["v1alpha1"],
  Resiliency: ["v1alpha1"],
  HTTPEndpoint: ["v1alpha1"],
  MCPServer: ["v1alpha1"],
  WorkflowAccessPolicy: ["v1alpha1"],
} as const satisfies Record<string, readonly string[]>;

/** A kind of resource. */
export type Kind = keyof typeof kinds;

const group = "dapr.io";
const kindNames = Object.keys(kinds) as Kind[];
const apiVersions = [...new Set(Object.values(kinds).flat())].map((version) => `${group}/${version}`);

/** Where something was written. */
export interface Source {
  readonly file: string;
  /** From 1. */
  readonly line: number;
}

/** A document of one of our kinds, whose spec has not been looked at yet. */
export interface Resource {
  readonly kind: Kind;
  /** Such as "v1alpha1". */
  readonly version: string;
  /** "" when it has none, which is a mistake that has been reported. */
  readonly name: string;
  /** "" when it has none. */
  readonly namespace: string;
  readonly root: Tree;
  readonly source: Source;
  /** Reports a mistake at an offset. */
  readonly mistake: Reporter;
  /** Reports a note at an offset. */
  readonly note: Reporter;
}

/** Kubernetes' ObjectMeta, of which files that were exported from a cluster have all. */
const objectMeta = z.object({
  name: text().optional(),
  namespace: text().optional(),
  labels: z.record(z.string(), text()).optional(),
  annotations: z.record(z.string(), text()).optional(),
  ...Object.fromEntries(
    [
      "generateName",
      "selfLink",
      "uid",
      "resourceVersion",
      "generation",
      "creationTimestamp",
      "deletionTimestamp",
      "deletionGracePeriodSeconds",
      "ownerReferences",
      "finalizers",
      "managedFields",
    ].map((name) => [name, z.unknown().optional()]),
  ),
});

/** The fields that every kind has at the top; `kind`'s own come beside them. */
export const header = {
  apiVersion: z.unknown().optional(),
  kind: z.unknown().optional(),
  metadata: z.unknown().optional(),
};

/** The fields of most kinds at the top. */
export const scoped = { ...header, scopes: z.array(text()).default([]) };

/** Finds our resources among the documents of a file; notes what is somebody else's. */
export function resourcesOf(file: string, text: Text, remarks: Remarks): readonly Resource[] {
  for (const { at, message, canBePassedOver } of text.mistakes) {
    remarks.mistake({ file, ...text.position(at), resource: "", field: "", message }, canBePassedOver);
  }
  return text.documents.flatMap((root) => recognize(root, file, text, remarks) ?? []);
}

function recognize(root: Tree, file: string, text: Text, remarks: Remarks): Resource | undefined {
  const start = text.position(root.at);
  const here = { file, ...start, resource: "", field: "" };
  if (root.kind !== "map") {
    remarks.note({ ...here, message: "ignored: the document is no resource" });
    return undefined;
  }
  const kind = wordAt(root, "kind");
  const apiVersion = wordAt(root, "apiVersion");
  const meta = find(root.entries, "metadata")?.value;
  const name = meta ? wordAt(meta, "name") : "";
  const resource = name === "" ? kind : `${kind} "${name}"`;
  const reporter = (report: "mistake" | "note"): Reporter => {
    return (at, path, message, canBePassedOver) =>
      remarks[report](
        { file, ...text.position(at), resource, field: formatPath(path), message },
        canBePassedOver,
      );
  };
  const mistake = reporter("mistake");
  const problem = identify(kind, apiVersion);
  if (problem === "foreign") {
    const what = kind === "" ? "a document without a kind" : `${apiVersion} ${kind}`.trim();
    remarks.note({ ...here, message: `ignored: ${what} is no resource of this runtime` });
    return undefined;
  }
  if (problem) {
    mistake(find(root.entries, problem.field)?.value.at ?? root.at, [problem.field], problem.message);
    return undefined;
  }
  checkMeta(root, meta, mistake);
  return {
    kind: kind as Kind,
    version: apiVersion.slice(apiVersion.indexOf("/") + 1),
    name,
    namespace: meta ? wordAt(meta, "namespace") : "",
    root,
    source: { file, line: start.line },
    mistake,
    note: reporter("note"),
  };
}

function wordAt(tree: Tree, name: string): string {
  const value = tree.kind === "map" ? find(tree.entries, name)?.value : undefined;
  return value?.kind === "scalar" && value.value !== null ? value.source : "";
}

/**
 * What is wrong with a document's kind or version; "foreign" when the document
 * is somebody else's, and undefined when it is ours. A document is ours when
 * one of the two says so and the other looks like a slip.
 */
function identify(
  kind: string,
  apiVersion: string,
): { field: "kind" | "apiVersion"; message: string } | "foreign" | undefined {
  const ourGroup = apiVersion.startsWith(`${group}/`);
  const ourKind = kindNames.find((each) => each === kind);
  const near = nearest(kind, kindNames);
  if (ourGroup && !ourKind) {
    if (kind === "") return { field: "kind", message: "is required" };
    const suggestion = didYouMean(kind, kindNames);
    return { field: "kind", message: `unknown kind "${kind}" of ${group}${suggestion}` };
  }
  if (ourKind && ourGroup) {
    const known = kinds[ourKind].map((version) => `${group}/${version}`);
    if (known.includes(apiVersion as (typeof known)[number])) return undefined;
    return {
      field: "apiVersion",
      message: `unknown version "${apiVersion}" of ${kind}; expected ${known.join(" or ")}`,
    };
  }
  if (apiVersion === "" && near) {
    return { field: "apiVersion", message: `is required; expected ${group}/${kinds[near as Kind][0]}` };
  }
  const nearVersion = near ? nearest(apiVersion, apiVersions) : undefined;
  if (!nearVersion) return "foreign";
  return { field: "apiVersion", message: `unknown "${apiVersion}"; did you mean "${nearVersion}"?` };
}

function checkMeta(root: Tree, meta: Tree | undefined, mistake: Reporter): void {
  const value = meta && read(objectMeta, meta, ["metadata"], mistake);
  if (meta && !value) return; // It is no map, which has been reported.
  const problem = nameProblem(value?.name ?? "");
  if (problem) mistake(locate(root, ["metadata", "name"]).at, ["metadata", "name"], problem);
}

/** As Kubernetes has it: a name can be a part of a path. */
function nameProblem(name: string): string | undefined {
  if (name === "") return "is required";
  if (name === "." || name === ".." || /[/%]/.test(name))
    return 'must not be "." or "..", or have "/" or "%" in it';
  if (name.length > 253) return "must have 253 characters or fewer";
  return undefined;
}
