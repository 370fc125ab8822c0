/** `spec.metadata` of a component: names matched to the fields of schemas, values resolved and checked. */
import { createHash } from "node:crypto";
import type { core, ZodType } from "zod";
import type { NameValue } from "./name-value.ts";
import type { Resource } from "./resource.ts";
import { checkedOnce, equalFold, explain, fieldsOf, isOpen, locate, type Path } from "./shape.ts";
import { nearest } from "./suggest.ts";
import type { Resolved, Values } from "./values.ts";

/** The items as they were written. */
export type Items = readonly NameValue[];

const itemsPath: Path = ["spec", "metadata"];

/** More names than this are not listed in a mistake. */
const mostListed = 20;

/** The metadata of one resource, resolved and not yet given to a schema. */
export class Metadata {
  readonly #resource: Resource;
  readonly #type: string;
  readonly #known: readonly string[];
  /** By the schema's spelling of the name. Undefined: reported already. */
  readonly #values = new Map<string, { readonly index: number; readonly resolved: Resolved | undefined }>();

  /** Fields whose names are probably what unknown names mean: that they are missing is no news. */
  readonly #misspelt = new Set<string>();

  /** Takes every item; reports names that no schema has, repeated ones, and references that lead nowhere. */
  constructor(
    resource: Resource,
    type: string,
    schemas: readonly ZodType[],
    items: Items,
    storeName: string,
    values: Values,
  ) {
    this.#resource = resource;
    this.#type = type;
    const fields = schemas.map(fieldsOf);
    const open = schemas.some(isOpen);
    this.#known = [...new Set(fields.flatMap((each) => Object.keys(each ?? {})))];
    for (const [index, item] of items.entries()) {
      const path = [...itemsPath, index];
      const name = this.#known.find((each) => equalFold(each, item.name)) ?? (open ? item.name : undefined);
      const nameAt = locate(resource.root, [...path, "name"]).at;
      if (name === undefined) resource.mistake(nameAt, [...path, "name"], this.#unknown(item.name), true);
      else {
        if (this.#values.has(name))
          resource.mistake(nameAt, [...path, "name"], `"${name}" is there twice`, true);
        const tree = locate(resource.root, path).tree ?? resource.root;
        const resolved = values.resolve(item, tree, path, storeName, resource.mistake);
        this.#values.set(name, { index, resolved });
      }
    }
    this.#nameSecrets(items);
  }

  /** A field `xName` beside a field `x` has the name of the secret that `x` refers to, unless it is given. */
  #nameSecrets(items: Items): void {
    for (const [name, { index, resolved }] of [...this.#values]) {
      const secret = items[index]?.secretKeyRef?.name;
      const field = `${name}Name`;
      if (!secret || !resolved || !this.#known.includes(field) || this.#values.has(field)) continue;
      this.#values.set(field, { index, resolved: { ...resolved, text: secret, secret: false } });
    }
  }

  /** The same for the same values, what references stand for included; tells nothing of them. */
  get fingerprint(): string {
    const values = [...this.#values].map(([name, { resolved }]) => [name, resolved?.stable]);
    return createHash("sha256").update(JSON.stringify(values.sort())).digest("base64url");
  }

  /** What a schema makes of the values that are its own; undefined when it refuses them. */
  parse<T>(schema: ZodType<T>): T | undefined {
    const fields = fieldsOf(schema);
    const open = isOpen(schema);
    const own = [...this.#values].filter(([name]) => open || Object.hasOwn(fields ?? {}, name));
    const input = Object.fromEntries(own.map(([name, { resolved }]) => [name, resolved?.text]));
    const result = schema.safeParse(input, checkedOnce);
    const sound = own.every(([, { resolved }]) => resolved !== undefined);
    if (result.success) return sound ? result.data : undefined;
    for (const issue of result.error.issues) this.#report(issue);
    return undefined;
  }

  #report(issue: core.$ZodIssue): void {
    const name = issue.path.length > 0 ? String(issue.path[0]) : undefined;
    const value = name === undefined ? undefined : this.#values.get(name);
    if (value && !value.resolved) return;
    if (name !== undefined && this.#misspelt.has(name)) return;
    if (value?.resolved) {
      const { at, field, text } = value.resolved;
      const message = explain(issue, { kind: "scalar", at, value: text, source: text });
      this.#resource.mistake(at, [...itemsPath, value.index, field], `${name}: ${this.#safe(message)}`);
      return;
    }
    const { at } = locate(this.#resource.root, itemsPath);
    const subject = name === undefined ? "" : `${name} `;
    this.#resource.mistake(at, itemsPath, `${subject}${this.#safe(explain(issue, undefined))}`);
  }

  /** A message without what references stand for. */
  #safe(message: string): string {
    const values = [...this.#values.values()].map(({ resolved }) => resolved);
    const shown = values.some((each) => each?.secret && each.text !== "" && message.includes(each.text));
    return shown ? "what is referred to is not a value that it can have" : message;
  }

  #unknown(name: string): string {
    const meant = nearest(name, this.#known);
    if (meant !== undefined) {
      this.#misspelt.add(meant);
      return `unknown field "${name}"; did you mean "${meant}"?`;
    }
    const list = this.#known.length <= mostListed ? `: ${this.#known.join(", ")}` : "";
    const known = this.#known.length > 0 ? `has ${this.#known.length}${list}` : "has none";
    return `unknown field "${name}"; ${this.#type} ${known}`;
  }
}
