/** What a rule may cost, read from its syntax: rules come from outside, and events too. */
import type { ASTNode } from "@marcbachmann/cel-js";

/** Macros in one rule. */
const maxMacros = 8;
/** In a rule with macros, each addition can double the largest value of all. */
const maxAdditionsWithMacros = 6;
/** Alternatives and options in a regular expression that is tried without a time limit: each can double the time. */
const maxFreeChoices = 6;

const macros = new Set(["all", "exists", "exists_one", "map", "filter"]);
/** What is not in the standard of CEL and multiplies what it is given. */
const refusedFunctions = new Set(["bind", "split", "join"]);

/** What the syntax tells. */
export interface RuleAnalysis {
  /** Why the rule cannot be used, as a sentence; undefined when it can. */
  readonly violation: string | undefined;
  /** True: for some event it may take long, so it needs a time limit. */
  readonly needsLimit: boolean;
  /** Whether it may read `event.time` or `event.data`, which are made for rules that do. */
  readonly reads: { readonly time: boolean; readonly data: boolean };
}

/**
 * Walks over a rule. The flags that RE2 allows at the beginning of a regular
 * expression, as in `(?i)abc`, are changed in place into the form that JavaScript knows.
 */
export function analyseRule(root: ASTNode): RuleAnalysis {
  let macroCount = 0;
  let macroReadsEvent = false;
  let additions = 0;
  let needsLimit = false;
  let violation: string | undefined;
  const names = new Set<string>();
  let readsAll = false;
  const visit = (node: ASTNode): void => {
    if (node.op === "." && node.args[0].op === "id" && node.args[0].args === "event") {
      names.add(node.args[1]);
      return;
    }
    if (node.op === "id" && node.args === "event") readsAll = true;
    if (node.op === "+") additions += 1;
    if (node.op === "rcall" || node.op === "call") {
      const name = node.args[0];
      if (refusedFunctions.has(name)) violation ??= `must not use ${name}()`;
      if (node.op === "rcall" && macros.has(name)) {
        macroCount += 1;
        macroReadsEvent ||= childrenOf(node.args[2]).some(mentionsEvent);
      }
      if (node.op === "rcall" && name === "matches") {
        const pattern = node.args[2][0];
        violation ??= patternViolation(pattern);
        needsLimit ||= !isLinear(pattern?.args);
      }
    }
    for (const child of childrenOf(node.args)) visit(child);
  };
  visit(root);
  if (macroCount > maxMacros) violation ??= `must not use more than ${maxMacros} macros`;
  if (macroCount > 0 && additions > maxAdditionsWithMacros) {
    violation ??= `must not use more than ${maxAdditionsWithMacros} additions together with macros`;
  }
  const reads = { time: readsAll || names.has("time"), data: readsAll || names.has("data") };
  // One macro is done in one pass, unless what it does for each element of the data is itself as long as the data.
  const onePass = macroCount === 0 || (macroCount === 1 && !(macroReadsEvent && reads.data));
  return { violation, needsLimit: needsLimit || !onePass, reads };
}

/** Operands are nodes, or names and literals, in arrays of any depth. */
function childrenOf(args: unknown): ASTNode[] {
  if (Array.isArray(args)) return args.flatMap(childrenOf);
  return isNode(args) ? [args] : [];
}

function isNode(value: unknown): value is ASTNode {
  return typeof value === "object" && value !== null && "op" in value && "args" in value;
}

function mentionsEvent(node: ASTNode): boolean {
  return (node.op === "id" && node.args === "event") || childrenOf(node.args).some(mentionsEvent);
}

function patternViolation(node: ASTNode | undefined): string | undefined {
  if (node?.op !== "value" || typeof node.args !== "string") return undefined;
  const [, flags, rest] = /^\(\?([ims]+)\)(.*)$/s.exec(node.args) ?? [];
  const expression = flags === undefined ? node.args : `(?${flags}:${rest})`;
  // The type calls a node read-only, but it is ours until it is checked.
  Object.assign(node, { args: expression });
  try {
    new RegExp(expression);
    return undefined;
  } catch (error) {
    return `must have a valid regular expression: ${(error as Error).message}`;
  }
}

/** Whether a regular expression cannot take long, as far as a glance tells: most in use cannot. */
function isLinear(pattern: unknown): boolean {
  if (typeof pattern !== "string") return false;
  const shape = pattern
    .replace(/\\./gs, "e")
    .replace(/\[[^\]]*\]/g, "c")
    .replace(/\(\?[ims]*:/g, "(");
  const repeats = shape.match(/[*+{]/g)?.length ?? 0;
  const choices = shape.match(/[?|]/g)?.length ?? 0;
  if (repeats === 0) return choices <= maxFreeChoices;
  return repeats === 1 && choices === 0 && /^\(*\^/.test(shape) && !/\)[*+{]/.test(shape);
}
