/** Routing rules: CEL over an event, compiled when a stream opens, tried in order on every event. */
import { createContext, Script } from "node:vm";
import { Environment, type ParseResult } from "@marcbachmann/cel-js";
import type { Event } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import type { Violation } from "../../faults.ts";
import { analyseRule, type RuleAnalysis } from "./rule-analysis.ts";
import { addData, addTime, type RuleEvent, ruleEvent } from "./rule-event.ts";

/** The longest rule, in bytes of UTF-8. */
const maxRuleBytes = 4096;
/** How long a rule with macros or a demanding regular expression may think about one event, in milliseconds. */
const maxEvaluationMs = 50;
const limits = { maxAstNodes: 2000, maxDepth: 32, maxListElements: 1000, maxMapEntries: 1000 };

/** Compiled rules. */
export interface Rules {
  /** What is wrong with them, with fields such as `routes[2].rule`; empty when they can be used. */
  readonly violations: readonly Violation[];
  /**
   * The name of the first route whose rule is true for the event; undefined when there is none.
   * A rule that fails on the event, gives no bool or takes too long does not match it. Never throws.
   */
  match(event: Event): string | undefined;
}

/** A rule that can be tried. */
type Test = (event: RuleEvent) => boolean;

/** A test, and what it reads. */
type Compiled = { readonly test: Test } & Pick<RuleAnalysis, "reads">;

/** Compiles routes. Routes at fault never match. */
export function compileRules(routes: readonly { readonly name: string; readonly rule: string }[]): Rules {
  const environment = ruleEnvironment();
  const limiter = new Limiter();
  const violations: Violation[] = [];
  const tests: ({ readonly name: string } & Compiled)[] = [];
  for (const [index, { name, rule }] of routes.entries()) {
    const compiled = compileRule(rule, environment, limiter);
    if (typeof compiled === "string")
      violations.push({ field: `routes[${index}].rule`, description: compiled });
    else tests.push({ name, ...compiled });
  }
  return {
    violations,
    match(event) {
      if (tests.length === 0) return undefined;
      const seen = ruleEvent(event);
      let hasTime = false;
      let hasData = false;
      for (const { name, reads, test } of tests) {
        if (reads.time && !hasTime) addTime(seen, event);
        if (reads.data && !hasData) addData(seen, event);
        hasTime ||= reads.time;
        hasData ||= reads.data;
        if (test(seen)) return name;
      }
      return undefined;
    },
  };
}

/**
 * One variable, `event`. Numbers in JSON are doubles to CEL, which compare with
 * whole numbers but do not calculate with them: people expect `event.data.amount * 2` to work.
 */
function ruleEnvironment(): Environment {
  const environment = new Environment({ homogeneousAggregateLiterals: false, limits });
  environment.registerVariable("event", "map");
  const operators: Record<string, (one: number, other: number) => number> = {
    "+": (one, other) => one + other,
    "-": (one, other) => one - other,
    "*": (one, other) => one * other,
    "/": (one, other) => one / other,
  };
  for (const [operator, calculate] of Object.entries(operators)) {
    const mixed = (one: number | bigint, other: number | bigint) => calculate(Number(one), Number(other));
    environment.registerOperator(`double ${operator} int: double`, mixed);
    environment.registerOperator(`int ${operator} double: double`, mixed);
  }
  return environment;
}

/** A test, or what is wrong with the rule as a sentence. */
function compileRule(rule: string, environment: Environment, limiter: Limiter): Compiled | string {
  if (rule.trim() === "") return "must not be empty";
  if (Buffer.byteLength(rule) > maxRuleBytes) return `must have at most ${maxRuleBytes} bytes`;
  let parsed: ParseResult;
  try {
    parsed = environment.parse(rule);
  } catch (error) {
    return explain(error);
  }
  const { violation, needsLimit, reads } = analyseRule(parsed.ast);
  if (violation !== undefined) return violation;
  const checked = parsed.check();
  if (!checked.valid) return explain(checked.error);
  if (checked.type !== "bool" && checked.type !== "dyn") return `must give a bool, not ${checked.type}`;
  const test: Test = (event) => {
    try {
      return parsed({ event }) === true;
    } catch {
      return false;
    }
  };
  return { test: needsLimit ? limiter.limit(test) : test, reads };
}

/** The library's errors draw the place in several lines; one sentence is enough. */
function explain(error: unknown): string {
  const { summary, range, message } = error as {
    summary?: string;
    range?: { start?: number };
    message: string;
  };
  const place = range?.start === undefined ? "" : ` at character ${range.start + 1}`;
  return `must be a valid CEL expression: ${summary ?? message}${place}`;
}

/** Ends evaluations that take too long. It costs a tenth of a millisecond, so only rules that need it have it. */
class Limiter {
  readonly #realm: { run: () => boolean } = { run: () => false };
  #script: Script | undefined;

  limit(test: Test): Test {
    this.#script ??= new Script("run()");
    createContext(this.#realm);
    return (event) => {
      this.#realm.run = () => test(event);
      try {
        return this.#script!.runInContext(this.#realm, { timeout: maxEvaluationMs }) === true;
      } catch {
        return false;
      } finally {
        this.#realm.run = () => false;
      }
    };
  }
}
