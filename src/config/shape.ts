/** A tree checked against a zod schema: names matched as Go matches them, mistakes with their places. */
import type { core, ZodType } from "zod";
import { didYouMean } from "./suggest.ts";
import { type Entry, plain, type Tree } from "./tree.ts";

/** For shapes that one value is read with: to generate code for them, as zod does, takes longer than reading it. */
export const checkedOnce = { jitless: true };

/** More names than this are not listed in a mistake. */
const mostListed = 12;

/** Names and indexes from the root, as zod has them. */
export type Path = readonly (string | number)[];

/** Is told what is wrong, and at which offset, and whether daprd would go on as if it were not there. */
export type Reporter = (at: number, path: Path, message: string, canBePassedOver?: boolean) => void;

/**
 * A value of the shape. Every mistake is reported. So that what depends on the
 * value can be checked all the same, and its mistakes told at once, fields that
 * are wrong are as if they were not there; undefined when it cannot do without them.
 */
export function read<T>(schema: ZodType<T>, tree: Tree, path: Path, report: Reporter): T | undefined {
  const input = canonical(schema, tree, path, report);
  const result = schema.safeParse(input, checkedOnce);
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const below = issue.path.filter((part) => typeof part !== "symbol");
    const place = locate(tree, below);
    report(place.at, [...path, ...below], explain(issue, place.tree));
    leaveOut(input, below);
  }
  return schema.safeParse(input, checkedOnce).data;
}

function leaveOut(input: unknown, path: Path): void {
  let parent = input;
  for (const part of path.slice(0, -1)) parent = childOf(parent, part);
  const last = path.at(-1);
  // An item of a list stays: without it, the places of those after it would be wrong.
  if (typeof last === "string" && typeof parent === "object" && parent !== null)
    Reflect.deleteProperty(parent, last);
}

function childOf(value: unknown, part: string | number): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, part) : undefined;
}

/** The fields of an object schema, through whatever is wrapped around it; undefined when it is none. */
export function fieldsOf(schema: core.$ZodType): Readonly<Record<string, core.$ZodType>> | undefined {
  const inner = unwrap(schema)._zod.def;
  return inner.type === "object" ? inner.shape : undefined;
}

/** Whether a schema takes names that it does not list. */
export function isOpen(schema: core.$ZodType): boolean {
  const { def } = unwrap(schema)._zod;
  return def.type !== "object" || (def.catchall !== undefined && def.catchall._zod.def.type !== "never");
}

/** The entry that a name means: the exact one, else one that differs in case only. As Go's JSON does it. */
export function find(entries: ReadonlyMap<string, Entry>, name: string): Entry | undefined {
  const exact = entries.get(name);
  if (exact) return exact;
  const lower = name.toLowerCase();
  for (const [other, entry] of entries) if (other.toLowerCase() === lower) return entry;
  return undefined;
}

/** `spec.metadata[3].name` */
export function formatPath(path: Path): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === "number") return `${text}[${part}]`;
    if (!/^[\w-]+$/.test(part)) return `${text}[${JSON.stringify(part)}]`;
    return text === "" ? part : `${text}.${part}`;
  }, "");
}

/** Where a path leads, or where it would have been: the nearest there is. */
export function locate(root: Tree, path: Path): { readonly at: number; readonly tree: Tree | undefined } {
  let tree = root;
  let at = root.at;
  for (const part of path) {
    let next: Tree | undefined;
    if (tree.kind === "list" && typeof part === "number") next = tree.items[part];
    const entry = tree.kind === "map" ? find(tree.entries, String(part)) : undefined;
    if (entry) next = entry.value;
    if (!next) return { at, tree: undefined };
    at = next.kind === "scalar" ? next.at : (entry?.at ?? next.at);
    tree = next;
  }
  return { at, tree };
}

function unwrap(schema: core.$ZodType): core.$ZodTypes {
  const typed = schema as core.$ZodTypes;
  const { def } = typed._zod;
  switch (def.type) {
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
    case "nonoptional":
    case "readonly":
    case "catch":
      return unwrap(def.innerType);
    case "pipe":
      return unwrap(def.in);
    case "lazy":
      return unwrap(def.getter());
    default:
      return typed;
  }
}

/**
 * The plain value with the schema's spelling of each name. An unknown name is
 * reported and left out; null is left out too, because it means "not set" to Go.
 */
function canonical(schema: core.$ZodType | undefined, tree: Tree, path: Path, report: Reporter): unknown {
  const { def } = schema ? unwrap(schema)._zod : { def: undefined };
  if (def?.type === "union") {
    const wanted = tree.kind === "map" ? ["object", "record"] : ["array"];
    const option = def.options.find((each) => wanted.includes(unwrap(each)._zod.def.type));
    return tree.kind === "scalar" ? tree.value : canonical(option, tree, path, report);
  }
  if (tree.kind === "list" && def?.type === "array") {
    return tree.items.map((item, index) => canonical(def.element, item, [...path, index], report));
  }
  if (tree.kind !== "map") return plain(tree);
  if (def?.type === "object") return canonicalObject(def, tree.entries, path, report);
  if (def?.type !== "record") return plain(tree);
  const set = [...tree.entries].filter(([, { value }]) => !isNull(value));
  return Object.fromEntries(
    set.map(([name, { value }]) => [name, canonical(def.valueType, value, [...path, name], report)]),
  );
}

function canonicalObject(
  { shape, catchall }: core.$ZodObjectDef,
  entries: ReadonlyMap<string, Entry>,
  path: Path,
  report: Reporter,
): unknown {
  const names = Object.keys(shape);
  const values: Record<string, unknown> = {};
  for (const [written, { at, value }] of entries) {
    const name = names.find((each) => each === written) ?? names.find((each) => equalFold(each, written));
    const where = [...path, written];
    if (name === undefined && catchall && catchall._zod.def.type !== "never") values[written] = plain(value);
    else if (name === undefined) report(at, where, unknownField(written, names), true);
    else {
      if (Object.hasOwn(values, name))
        report(at, where, `"${name}" is there twice, in different cases`, true);
      if (!isNull(value)) values[name] = canonical(shape[name], value, where, report);
    }
  }
  return values;
}

function unknownField(name: string, names: readonly string[]): string {
  const few = names.length > 0 && names.length <= mostListed;
  return `unknown field${didYouMean(name, names) || (few ? `; there are: ${names.join(", ")}` : "")}`;
}

/** Whether two names are the same to Go's JSON. */
export function equalFold(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}

function isNull(tree: Tree): boolean {
  return tree.kind === "scalar" && tree.value === null;
}

const typeNames: Readonly<Record<string, string>> = { object: "a map", array: "a list", record: "a map" };

/** The issue in our words; without a tree, the value is missing. Zod's own begin with "Invalid input". */
export function explain(issue: core.$ZodIssue, tree: Tree | undefined): string {
  if (issue.code === "custom" && issue.message !== "") return issue.message;
  if (!tree || isNull(tree)) return "is required";
  if (issue.code === "invalid_type") return `expected ${typeNames[issue.expected] ?? issue.expected}`;
  if (issue.code === "invalid_union") {
    return tree.kind === "scalar" ? "expected a map" : "expected one value, not a map or a list";
  }
  if (issue.code === "invalid_value") {
    const options = issue.values.map(String);
    const suggestion = tree.kind === "scalar" ? didYouMean(tree.source, options) : "";
    return `expected one of ${options.map((option) => `"${option}"`).join(", ")}${suggestion}`;
  }
  if (issue.code === "too_small" && issue.minimum === 1) return "must not be empty";
  return issue.message.charAt(0).toLowerCase() + issue.message.slice(1);
}
