import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { type Event, EventSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { compileRules } from "../../../src/blocks/pubsub/rules.ts";

/** An event of type "order.paid" with JSON data, unless told otherwise. */
function event(data: unknown, attributes: MessageInitShape<typeof EventSchema> = {}): Event {
  const bytes = data instanceof Uint8Array ? data : new TextEncoder().encode(JSON.stringify(data));
  return create(EventSchema, {
    id: "42",
    source: "checkout",
    type: "order.paid",
    dataContentType: "application/json",
    data: data === undefined ? new Uint8Array() : bytes,
    ...attributes,
  });
}

/** Whether one rule is true for an event. Fails when the rule does not compile. */
function matches(rule: string, of: Event): boolean {
  const rules = compileRules([{ name: "it", rule }]);
  expect(rules.violations).toEqual([]);
  return rules.match(of) === "it";
}

const violationOf = (rule: string) => compileRules([{ name: "it", rule }]).violations[0]?.description;

describe("routing rules", () => {
  it("give the name of the first rule that matches, in the order in which they are written", () => {
    const rules = compileRules([
      { name: "large", rule: "event.data.amount > 1000" },
      { name: "order", rule: 'event.type.startsWith("order.")' },
      { name: "all", rule: "true" },
    ]);
    expect(rules.match(event({ amount: 5000 }))).toBe("large");
    expect(rules.match(event({ amount: 5 }))).toBe("order");
    expect(rules.match(event({}, { type: "invoice" }))).toBe("all");
  });

  it("give nothing when no rule matches, and when there is none", () => {
    expect(compileRules([{ name: "no", rule: "false" }]).match(event({}))).toBeUndefined();
    expect(compileRules([]).match(event({}))).toBeUndefined();
  });

  describe("that Dapr documents", () => {
    it.each([
      ['event.type == "widget"', { type: "widget" }, {}, true],
      ['event.type == "widget"', { type: "gadget" }, {}, false],
      ["has(event.data.important) && event.data.important == true", {}, { important: true }, true],
      ["has(event.data.important) && event.data.important == true", {}, { important: false }, false],
      ["has(event.data.important) && event.data.important == true", {}, {}, false],
      ['event.type.startsWith("order.")', {}, {}, true],
      ["int(event.data.amount) > 10000", {}, { amount: "10001" }, true],
      ["int(event.data.amount) > 10000", {}, { amount: 10000 }, false],
      [
        'event.type == "deposit" && int(event.data.amount) > 10000',
        { type: "deposit" },
        { amount: 20000 },
        true,
      ],
      ['event.data.department in ["a", "b"]', {}, { department: "b" }, true],
      ['event.type == "v3" || event.type == "v4"', { type: "v4" }, {}, true],
    ])("are understood: %s with %j and %j is %s", (rule, attributes, data, expected) => {
      expect(matches(rule, event(data, attributes))).toBe(expected);
    });
  });

  describe("see attributes", () => {
    const full = event(undefined, {
      subject: "orders/42",
      dataSchema: "https://example.com/schema",
      time: timestampFromMs(1_700_000_000_123),
      extensions: { region: "eu", constructor: "a word with a meaning" },
    });

    it.each([
      'event.id == "42" && event.source == "checkout"',
      'event.specversion == "1.0"',
      'event.subject == "orders/42"',
      'event.datacontenttype == "application/json"',
      'event.dataschema.endsWith("/schema")',
      'event.region == "eu"',
      'event.time == "2023-11-14T22:13:20.123Z"',
      'timestamp(event.time) > timestamp("2023-01-01T00:00:00Z")',
      'event["type"] == "order.paid"',
      "!has(event.data)",
    ])("by their CloudEvents names: %s", (rule) => {
      expect(matches(rule, full)).toBe(true);
    });

    it.each(["subject", "time", "dataschema", "region", "data"])(
      "that an event has not as absent, not as empty: %s",
      (name) => {
        const bare = event(undefined);
        expect(matches(`has(event.${name})`, bare)).toBe(false);
        expect(matches(`event.${name} == ""`, bare)).toBe(false);
      },
    );
  });

  describe("see numbers in JSON", () => {
    it.each([
      "event.data.amount > 99",
      "event.data.amount > 99.5",
      "event.data.amount >= 100 && event.data.amount <= 100.0",
      "event.data.amount == 100",
      "100 == event.data.amount",
      "event.data.amount == 100.0",
      "event.data.amount in [99, 100]",
      "event.data.amount * 2 + 1 == 201",
      "1 + 2 * event.data.amount == 201.0",
      "event.data.amount - 1 < event.data.amount / 1",
      "event.data.price > 1 && event.data.price < 2",
      "event.data.list == [1, 2, 3] && event.data.list[1] == 2",
      "event.data.list.exists(x, x > 2) && size(event.data.list) == 3",
      "event.data.list.filter(x, x > 1).size() == 2",
    ])("as whole numbers and as fractions: %s", (rule) => {
      expect(matches(rule, event({ amount: 100, price: 1.5, list: [1, 2, 3] }))).toBe(true);
    });
  });

  describe("see data", () => {
    it.each(["application/json", "application/vnd.order+json; charset=utf-8", "TEXT/JSON", ""])(
      "parsed when it is JSON: %j",
      (dataContentType) => {
        expect(matches("event.data.a.b == null", event({ a: { b: null } }, { dataContentType }))).toBe(true);
      },
    );

    it("as a string when it is something else, or says that it is JSON and is not", () => {
      const text = new TextEncoder().encode("plain");
      for (const dataContentType of ["text/plain", "application/json", "application/octet-stream", ""]) {
        expect(matches('event.data == "plain"', event(text, { dataContentType }))).toBe(true);
      }
      expect(matches("event.data.a == 1", event({ a: 1 }, { dataContentType: "text/plain" }))).toBe(false);
    });

    it("up to 1 MiB", () => {
      const rule = 'event.data.startsWith("x")';
      const fits = new Uint8Array(1024 * 1024).fill(120);
      expect(matches(rule, event(fits))).toBe(true);
      expect(matches(rule, event(new Uint8Array(1024 * 1024 + 1).fill(120)))).toBe(false);
    });

    it("parsed once for all rules of an event, and not at all for rules that do not ask for it", () => {
      let reads = 0;
      const counting = event({ n: 3 });
      const { data } = counting;
      Object.defineProperty(counting, "data", {
        get: () => {
          reads += 1;
          return data;
        },
      });
      compileRules([{ name: "no", rule: 'event.type == "other"' }]).match(counting);
      expect(reads).toBe(0);
      const rules = [1, 2, 3].map((n) => ({ name: `${n}`, rule: `event.data.n == ${n}` }));
      expect(compileRules(rules).match(counting)).toBe("3");
      expect(reads).toBe(1);
    });

    it("with the names of JavaScript's own properties as absent", () => {
      for (const name of ["constructor", "toString", "__proto__"]) {
        expect(matches(`has(event.data.${name}) || has(event.${name})`, event({ a: 1 }))).toBe(false);
      }
    });
  });

  it.each([
    "event.nothing == 1",
    "event.data.a.b.c == 1",
    "event.data.text > 1",
    "event.data.text",
    "int(event.data.text) == 1",
  ])("that fail on an event or give no bool do not match it: %s", (rule) => {
    const rules = compileRules([
      { name: "failing", rule },
      { name: "next", rule: "true" },
    ]);
    expect(rules.violations).toEqual([]);
    expect(rules.match(event({ text: "text" }))).toBe("next");
  });

  describe("are refused", () => {
    it.each([
      ["", "must not be empty"],
      ["  ", "must not be empty"],
      ["event.type ==", "must be a valid CEL expression: Unexpected token: EOF at character 14"],
      ["evnt.type == 'a'", "Unknown variable: evnt"],
      ["type == 'a'", "no such overload"],
      ["event.type.nosuch()", "nosuch"],
      ["nosuch(event)", "nosuch"],
      ["1 + 1", "must give a bool, not int"],
      ["'a'", "must give a bool, not string"],
      ["'a' == 1", "no such overload"],
      [`event.type == "${"x".repeat(4096)}"`, "must have at most 4096 bytes"],
      [`event.type == "${"ü".repeat(2045)}"`, "must have at most 4096 bytes"],
      [`${"(".repeat(200)}true${")".repeat(200)}`, "must be a valid CEL expression"],
      ['event.type.matches("(")', "must have a valid regular expression"],
      ["cel.bind(x, 1, x == 1)", "must not use bind()"],
      ['event.type.split("").size() > 1', "must not use split()"],
    ])("with the reason: %s", (rule, reason) => {
      expect(violationOf(rule)).toContain(reason);
    });

    it("all at once, by their places, while the others work", () => {
      const rules = compileRules([
        { name: "a", rule: "event.type ==" },
        { name: "b", rule: "true" },
        { name: "c", rule: "nosuch" },
      ]);
      expect(rules.violations.map(({ field }) => field)).toEqual(["routes[0].rule", "routes[2].rule"]);
      expect(rules.match(event({}))).toBe("b");
    });

    it("on one line, without a drawing of the place", () => {
      expect(violationOf("event.type == &&\n 'a'")).not.toContain("\n");
    });
  });

  describe("with regular expressions", () => {
    it.each([
      ["^order", true],
      ["PAID", false],
      ["(?i)PAID", true],
      ["^[a-z]+\\\\.(paid|shipped)$", true],
      ["(a+)+$", false],
    ])("match as RE2 does: %s gives %s", (pattern, expected) => {
      expect(matches(`event.type.matches("${pattern}")`, event({}))).toBe(expected);
    });

    it("may come from the event itself; one that is invalid does not match", () => {
      expect(matches("event.type.matches(event.data.pattern)", event({ pattern: "^order" }))).toBe(true);
      expect(matches("event.type.matches(event.data.pattern)", event({ pattern: "(" }))).toBe(false);
    });
  });

  it.each([
    "!".repeat(4000),
    "-".repeat(4000),
    "[".repeat(4000),
    "(".repeat(4000),
    "event.a.".repeat(500),
    "{".repeat(4000),
  ])("nested as deeply as can be are refused or harmless: %.10s", (prefix) => {
    const rules = compileRules([{ name: "deep", rule: `${prefix}true` }]);
    expect(["deep", undefined]).toContain(rules.match(event({})));
  });

  describe("that would take for ever", () => {
    const evil = event({
      text: `${"a".repeat(60)}b`,
      list: Array.from({ length: 10_000 }, (_, index) => index),
    });

    it.each([
      ["a regular expression that backtracks", 'event.data.text.matches("(a+)+$")'],
      ["one with alternatives", 'event.data.text.matches("^(a|a)*$")'],
      ["one from the event", "event.data.text.matches(event.data.pattern)"],
      [
        "a macro over data that reads data",
        "event.data.list.all(a, !(0 - 1 in event.data.list) && !(0 - 2 in event.data.list) && !(0 - 3 in event.data.list))",
      ],
      [
        "nested macros",
        "event.data.list.all(a, event.data.list.all(b, event.data.list.all(c, a + b + c >= 0)))",
      ],
    ])("are ended, and do not match: %s", (_name, rule) => {
      const rules = compileRules([
        { name: "evil", rule },
        { name: "next", rule: 'event.type == "order.paid"' },
      ]);
      expect(rules.violations).toEqual([]);
      const pattern = {
        ...evil,
        data: new TextEncoder().encode(
          JSON.stringify({ text: `${"a".repeat(60)}b`, list: [...Array(10_000).keys()], pattern: "(a+)+$" }),
        ),
      };
      const startedAtMs = performance.now();
      expect(rules.match(pattern)).toBe("next");
      expect(performance.now() - startedAtMs).toBeLessThan(2000);
    });

    it("work again on the next event", () => {
      const rules = compileRules([
        { name: "it", rule: 'event.data.list.exists(x, x == 7) && !event.data.text.matches("(a+)+$")' },
      ]);
      expect(rules.match(evil)).toBeUndefined();
      expect(rules.match(event({ text: "b", list: [7] }))).toBe("it");
      expect(rules.match(event({ text: "b", list: [8] }))).toBeUndefined();
    });

    it("or fill the memory are refused or fail: values that double", () => {
      const doubling = `[event.data.text]${".map(s, s + s)".repeat(7)}.exists(s, s.contains("c"))`;
      expect(violationOf(doubling)).toContain("additions");
      const many = `event.data.list${".map(s, s)".repeat(9)} == []`;
      expect(violationOf(many)).toContain("macros");
    });
  });
});
