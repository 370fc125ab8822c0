/** Plain data that knows its places in a text. */

/** A value in a document. `at` is its offset in the text, for `Text.position`. */
export type Tree = { readonly at: number } & (
  | { readonly kind: "scalar"; readonly value: string | number | boolean | null; readonly source: string }
  | { readonly kind: "list"; readonly items: readonly Tree[] }
  | { readonly kind: "map"; readonly entries: ReadonlyMap<string, Entry> }
);

/** A field of a map. `at` is the offset of its key. */
export interface Entry {
  readonly at: number;
  readonly value: Tree;
}

/** What is wrong with the YAML itself. */
export interface SyntaxMistake {
  readonly at: number;
  readonly message: string;
  /** True: daprd goes on as if it were not there. */
  readonly canBePassedOver?: boolean;
}

/** The documents of one text. */
export interface Text {
  /** One for each document that is not empty. A document with a syntax mistake is left out. */
  readonly documents: readonly Tree[];
  readonly mistakes: readonly SyntaxMistake[];
  /** Line and column, both from 1, of an offset. */
  position(at: number): { readonly line: number; readonly column: number };
}

/** The value without its places. */
export function plain(tree: Tree): unknown {
  if (tree.kind === "scalar") return tree.value;
  if (tree.kind === "list") return tree.items.map(plain);
  return Object.fromEntries([...tree.entries].map(([name, { value }]) => [name, plain(value)]));
}
