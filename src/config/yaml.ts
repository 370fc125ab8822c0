/** YAML as a tree: aliases and merge keys resolved, limits kept. Loaded only when there is a file to read. */
import {
  type Document,
  isAlias,
  isCollection,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
} from "yaml";
import type { Entry, SyntaxMistake, Text, Tree } from "./tree.ts";

/** Values in one text, those behind aliases counted each time: a few lines can stand for billions. */
const mostValues = 100_000;

/** Values within values. YAML's parser recurses; so do those who read the tree. */
const mostLevels = 100;

/** Of one document: one wrong indentation can make a mistake of each line that follows. */
const mostSyntaxMistakes = 10;

/** Reads the documents of a text. Never throws for what the text is. */
export function readText(text: string): Text {
  const lines = new LineCounter();
  const position = (at: number) => {
    const { line, col } = lines.linePos(Math.min(at, text.length));
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const mistakes: SyntaxMistake[] = [];
  const documents: Tree[] = [];
  try {
    const limits = { values: 0 };
    for (const document of parse(text, lines)) {
      const wrong = [...document.errors, ...document.warnings].slice(0, mostSyntaxMistakes);
      for (const { pos, code, message } of wrong) {
        mistakes.push({ at: pos[0], message: code === "RESOURCE_EXHAUSTION" ? tooDeep : sentence(message) });
      }
      if (wrong.length > 0 || !document.contents) continue;
      const tree = new TreeMaker(document, limits, mistakes).make(document.contents);
      if (tree.kind !== "scalar" || tree.value !== null) documents.push(tree);
    }
  } catch (error) {
    if (error instanceof Limit) mistakes.push({ at: error.at, message: error.message });
    // The parser recurses, and catches the end of the stack itself in most places only.
    else if (error instanceof RangeError) mistakes.push({ at: 0, message: tooDeep });
    else throw error;
  }
  return { documents, mistakes, position };
}

/** As Go's YAML does: 1.1, with merge keys and yes/no, but dates and times stay text. */
function parse(text: string, lineCounter: LineCounter): Document.Parsed[] {
  const parsed = parseAllDocuments(text, {
    version: "1.1",
    customTags: (tags) => tags.filter((tag) => typeof tag === "string" || !isTime(tag)),
    lineCounter,
    prettyErrors: false,
    logLevel: "silent",
    // The library compares each key with all before it; TreeMaker uses a map.
    uniqueKeys: false,
  });
  return "empty" in parsed ? [] : parsed;
}

/** `2001-01-01`, and `1:30` as a number to the base of 60. */
function isTime(tag: { readonly tag: string; readonly format?: string }): boolean {
  return tag.format === "TIME" || tag.tag === "tag:yaml.org,2002:timestamp";
}

const tooDeep = `values are nested more than ${mostLevels} levels deep`;

/** The library's sentences begin with a capital; tag names in them can be of any length. */
function sentence(message: string): string {
  const short = message.replace(/\s+/g, " ").slice(0, 200);
  return short.charAt(0).toLowerCase() + short.slice(1);
}

class Limit extends Error {
  readonly at: number;

  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

class TreeMaker {
  readonly #document: Document.Parsed;
  readonly #limits: { values: number };
  readonly #mistakes: SyntaxMistake[];
  /** Anchored nodes that have been met, by name: an alias means the last one before it. */
  readonly #anchors = new Map<string, Node>();
  /** Nodes on the way down from the root: an alias to one of them would have no end. */
  readonly #open = new Set<Node>();

  constructor(document: Document.Parsed, limits: { values: number }, mistakes: SyntaxMistake[]) {
    this.#document = document;
    this.#limits = limits;
    this.#mistakes = mistakes;
  }

  make(node: Node): Tree {
    const at = node.range?.[0] ?? this.#document.range[0];
    if (++this.#limits.values > mostValues) {
      throw new Limit(at, `more than ${mostValues} values, those behind aliases included`);
    }
    if (this.#open.size >= mostLevels && isCollection(node)) {
      throw new Limit(at, tooDeep);
    }
    if (isAlias(node)) return this.#alias(node.source, at);
    if (node.anchor) this.#anchors.set(node.anchor, node);
    this.#open.add(node);
    const tree = this.#content(node, at);
    this.#open.delete(node);
    return tree;
  }

  #alias(name: string, at: number): Tree {
    const target = this.#anchors.get(name);
    if (target && !this.#open.has(target)) return this.make(target);
    const message = target
      ? `the alias *${name} is within what it stands for`
      : `no anchor &${name} before it`;
    this.#mistakes.push({ at, message });
    return { kind: "scalar", at, value: null, source: "" };
  }

  #content(node: Node, at: number): Tree {
    if (isSeq<Node>(node)) return { kind: "list", at, items: node.items.map((item) => this.make(item)) };
    if (isMap<Node, Node | null>(node)) return { kind: "map", at, entries: this.#entries(node.items) };
    const value: unknown = isScalar(node) ? node.value : null;
    const source = isScalar(node) && typeof node.source === "string" ? node.source : String(value ?? "");
    if (value === null || value === undefined) return { kind: "scalar", at, value: null, source };
    if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
      return { kind: "scalar", at, value, source };
    }
    return { kind: "scalar", at, value: source, source };
  }

  #entries(pairs: readonly { key: Node; value: Node | null }[]): ReadonlyMap<string, Entry> {
    const entries = new Map<string, Entry>();
    const merged: Tree[] = [];
    for (const { key, value } of pairs) {
      const name = this.make(key);
      const at = name.at;
      const tree: Tree = value ? this.make(value) : { kind: "scalar", at, value: null, source: "" };
      if (name.kind !== "scalar") this.#mistakes.push({ at, message: "a key must be text" });
      else if (name.source === "<<") merged.push(...(tree.kind === "list" ? tree.items : [tree]));
      else {
        if (entries.has(name.source)) {
          const message = `the key "${name.source}" is there twice`;
          this.#mistakes.push({ at, message, canBePassedOver: true });
        }
        entries.set(name.source, { at, value: tree });
      }
    }
    for (const tree of merged) {
      if (tree.kind !== "map")
        this.#mistakes.push({ at: tree.at, message: "<< takes a map or a list of maps" });
      else for (const [name, entry] of tree.entries) if (!entries.has(name)) entries.set(name, entry);
    }
    return entries;
  }
}
