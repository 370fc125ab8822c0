import { describe, expect, it } from "vitest";
import { componentYaml, loadText, mistakesOf } from "./fixture.ts";

const subscription = (spec: string, version = "v2alpha1", rest = "") =>
  `apiVersion: dapr.io/${version}\nkind: Subscription\nmetadata:\n  name: sub\nspec:\n${spec.replace(/^/gm, "  ")}\n${rest}`;
const bus = componentYaml("bus", "pubsub.in-memory");

describe("a Subscription", () => {
  it("of v2alpha1 has routes with rules, and a default", async () => {
    const yaml = subscription(`pubsubname: bus
topic: orders
routes:
  rules:
  - match: event.type == "new"
    path: /new
  default: /other
deadLetterTopic: failed
metadata: {rawPayload: true, priority: 3}
bulkSubscribe: {enabled: true, maxMessagesCount: 10}`);
    const { subscriptions } = await loadText(`${bus}---\n${yaml}`);
    expect(subscriptions).toMatchObject([
      {
        name: "sub",
        component: "bus",
        topic: "orders",
        routes: [{ name: "/new", rule: 'event.type == "new"' }],
        defaultRoute: "/other",
        deadLetterTopic: "failed",
        raw: true,
        metadata: { rawPayload: "true", priority: "3" },
        bulk: { enabled: true, maxMessagesCount: 10, maxAwaitDurationMs: 0 },
        source: { line: 8 },
      },
    ]);
  });

  it("of v1alpha1 has one route, and may name the component that nobody declared", async () => {
    const yaml = subscription("pubsubname: pubsub\ntopic: orders\nroute: /orders", "v1alpha1");
    const { subscriptions } = await loadText(yaml);
    expect(subscriptions).toMatchObject([
      { component: "pubsub", routes: [], defaultRoute: "/orders", bulk: undefined },
    ]);
  });

  it.each([
    ["rawPayload", "t", true],
    ["isRawPayload", "true", true],
    ["rawpayload", "1", true],
    ["rawPayload", "false", false],
    ["rawPayload", "", false],
    ["raw", "true", false],
  ])("asks for events without an envelope as it does of daprd: %s: %j", async (name, value, raw) => {
    const yaml = subscription(
      `pubsubname: bus\ntopic: t\nroutes: {default: /a}\nmetadata: {${name}: "${value}"}`,
    );
    const { subscriptions } = await loadText(`${bus}---\n${yaml}`);
    expect(subscriptions).toMatchObject([{ raw }]);
  });

  it("gives every event that reaches it to a rule without a match, as Dapr does", async () => {
    const rules = "pubsubname: bus\ntopic: t\nroutes:\n  rules:\n  - match: a\n    path: /a\n  - path: /rest";
    const { subscriptions } = await loadText(`${bus}---\n${subscription(rules)}`);
    expect(subscriptions).toMatchObject([
      { routes: [{ name: "/a", rule: "a" }], defaultRoute: "/rest", defaultPath: "" },
    ]);
    const more = await loadText(
      `${bus}---\n${subscription(`${rules}\n  - match: b\n    path: /b\n  default: /d`)}`,
    );
    expect(more.subscriptions).toMatchObject([
      {
        routes: [{ name: "/a", rule: "a" }],
        defaultRoute: "/rest",
        rules: [
          { match: "a", path: "/a" },
          { match: "", path: "/rest" },
          { match: "b", path: "/b" },
        ],
        defaultPath: "/d",
      },
    ]);
  });

  it("is refused when its component is missing, or of another block", async () => {
    const store = componentYaml("orders", "state.sqlite");
    const at = (name: string) =>
      `${store}---\n${bus}---\n${subscription(`pubsubname: ${name}\ntopic: t\nroute: /r`, "v1alpha1")}`;
    expect(await mistakesOf(loadText(at("buss")))).toEqual([
      'a.yaml:20:15  Subscription "sub" spec.pubsubname: no publish/subscribe component "buss"; did you mean "bus"?',
    ]);
    expect(await mistakesOf(loadText(at("kafka")))).toEqual([
      'a.yaml:20:15  Subscription "sub" spec.pubsubname: no publish/subscribe component "kafka"; there are: bus',
    ]);
    expect(await mistakesOf(loadText(at("orders")))).toEqual([
      'a.yaml:20:15  Subscription "sub" spec.pubsubname: "orders" is a state component',
    ]);
  });

  it("is refused when a rule does not compile", async () => {
    const yaml = subscription("pubsubname: pubsub\ntopic: t\nroutes: {rules: [{match: '1 +', path: /a}]}");
    const checkRule = (rule: string) => (rule === "1 +" ? "the expression ends too soon" : undefined);
    expect(await mistakesOf(loadText(yaml, { checkRule }))).toEqual([
      'a.yaml:8:28  Subscription "sub" spec.routes.rules[0].match: the expression ends too soon',
    ]);
  });

  it("has its own mistakes told even if its component cannot be loaded", async () => {
    const yaml = subscription("pubsubname: bus\ntopic: ''\nroute: /r", "v1alpha1");
    const mistakes = await mistakesOf(loadText(`${componentYaml("bus", "pubsub.kafka")}---\n${yaml}`));
    expect(mistakes).toHaveLength(2);
    expect(mistakes[1]).toContain('Subscription "sub" spec.topic: must not be empty');
  });

  it("is refused without a topic, a route, or with one that no stream could have", async () => {
    const none = subscription("pubsubname: pubsub\ntopic: ''\nroutes: {}");
    expect(await mistakesOf(loadText(none))).toEqual([
      'a.yaml:7:10  Subscription "sub" spec.topic: must not be empty',
      'a.yaml:8:3  Subscription "sub" spec.routes.default: is required, or no event has a route',
    ]);
    const long = subscription(`pubsubname: pubsub\ntopic: t\nroute: /${"x".repeat(256)}`, "v1alpha1");
    expect((await mistakesOf(loadText(long)))[0]).toContain("spec.route: must have 1 to 256 bytes");
    const longest = subscription(`pubsubname: pubsub\ntopic: t\nroute: /${"x".repeat(255)}`, "v1alpha1");
    expect((await loadText(longest)).subscriptions).toHaveLength(1);
    const rules = (count: number) =>
      `{match: m, path: /p},`
        .repeat(count)
        .replace(/^/, "pubsubname: pubsub\ntopic: t\nroutes: {rules: [")
        .concat("]}");
    expect((await loadText(subscription(rules(64)))).subscriptions).toHaveLength(1);
    expect((await mistakesOf(loadText(subscription(rules(65)))))[0]).toContain(
      "spec.routes.rules: must be 64 or fewer",
    );
  });

  it("is not loaded, with a note, when it or its component is for another application", async () => {
    const mine = subscription("pubsubname: bus\ntopic: t\nroute: /r", "v1alpha1");
    const scoped = await loadText(`${bus}---\n${mine}scopes: [stock]\n`);
    expect(scoped.subscriptions).toEqual([]);
    expect(scoped.notes).toMatchObject([{ resource: 'Subscription "sub"', field: "scopes" }]);
    const without = await loadText(`${bus}scopes: [stock]\n---\n${mine}`);
    expect(without.subscriptions).toEqual([]);
    expect(without.notes.map(({ message }) => message)).toContain('not loaded: "bus" is not loaded');
  });
});
