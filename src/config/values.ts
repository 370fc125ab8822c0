/** Values that are written out, or referred to: `value`, `secretKeyRef`, `envRef`, and the templates in them. */
import { randomUUID } from "node:crypto";
import type { NameValue } from "./name-value.ts";
import type { Secrets } from "./secrets.ts";
import { find, type Path, type Reporter } from "./shape.ts";
import { plain, type Tree } from "./tree.ts";

/** Who this sidecar is, for the templates. */
export interface Identity {
  readonly appId: string;
  /** "default" when nothing else is set. */
  readonly namespace: string;
  /** Undefined outside of Kubernetes. */
  readonly podName: string | undefined;
}

/** A value with where it is from. */
export interface Resolved {
  readonly text: string;
  /** The text with `{uuid}` as it is written: the same each time that the same is read. */
  readonly stable: string;
  /** True when it is from a reference, and must not be shown. */
  readonly secret: boolean;
  /** The offset and the field's last name, for reports about the value. */
  readonly at: number;
  readonly field: "value" | "secretKeyRef" | "envRef";
}

/** Makes text of values. */
export class Values {
  readonly #identity: Identity;
  readonly #secrets: Secrets;

  constructor(identity: Identity, secrets: Secrets) {
    this.#identity = identity;
    this.#secrets = secrets;
  }

  /**
   * The value of an item at `path`. Undefined when it has none that can be
   * had: the reporter knows why. `storeName` is `auth.secretStore`, or "".
   */
  resolve(
    item: NameValue,
    tree: Tree,
    path: Path,
    storeName: string,
    report: Reporter,
  ): Resolved | undefined {
    const at = (field: string) => fieldAt(tree, field);
    const reference = item.secretKeyRef?.name ? item.secretKeyRef : undefined;
    const given = [item.value !== undefined, reference !== undefined, item.envRef !== ""];
    if (given.filter(Boolean).length > 1) {
      report(tree.at, path, "has more than one of value, secretKeyRef and envRef");
      return undefined;
    }
    if (reference) {
      const where = { at: at("secretKeyRef"), field: "secretKeyRef" as const };
      if (storeName === "") {
        report(
          where.at,
          [...path, where.field],
          "refers to a secret, but auth.secretStore names no secret store",
        );
        return undefined;
      }
      const found = this.#secrets.find(storeName, reference.name, reference.key);
      if (found && "value" in found) return secretOf(found.value, where);
      if (found) report(where.at, [...path, where.field], found.problem);
      return undefined;
    }
    if (item.envRef !== "") {
      const where = { at: at("envRef"), field: "envRef" as const };
      const found = this.#secrets.variable(item.envRef);
      if ("value" in found) return secretOf(found.value, where);
      report(where.at, [...path, where.field], found.problem);
      return undefined;
    }
    const where = { at: at("value"), field: "value" as const };
    const written = tree.kind === "map" ? find(tree.entries, "value")?.value : undefined;
    const stable = this.#fill(written ? textOf(written) : "");
    if (stable !== undefined) {
      const text = stable.replaceAll("{uuid}", () => randomUUID());
      return { text, stable, secret: false, ...where };
    }
    report(
      where.at,
      [...path, where.field],
      "{podName} needs the environment variable POD_NAME, which is not set",
    );
    return undefined;
  }

  /** Fills in the templates but `{uuid}`; undefined when one of them has no value here. */
  #fill(value: string): string | undefined {
    const { appId, namespace, podName } = this.#identity;
    if (podName === undefined && value.includes("{podName}")) return undefined;
    return value.replace(/\{(podName|namespace|appID)\}/g, (_, name: string) => {
      if (name === "podName") return podName ?? "";
      // The app id is in it so that two applications of a namespace do not share what it names.
      return name === "namespace" ? `${namespace}.${appId}` : appId;
    });
  }
}

function secretOf(value: string, where: Pick<Resolved, "at" | "field">): Resolved {
  return { text: value, stable: value, secret: true, ...where };
}

/** A value as text. A fraction stays as it was written: `1.10` is a version more often than a number. */
function textOf(tree: Tree): string {
  if (tree.kind !== "scalar") return JSON.stringify(plain(tree));
  if (tree.value === null) return "";
  return typeof tree.value === "number" && !Number.isSafeInteger(tree.value)
    ? tree.source
    : String(tree.value);
}

function fieldAt(tree: Tree, field: string): number {
  return (tree.kind === "map" ? find(tree.entries, field)?.value.at : undefined) ?? tree.at;
}
