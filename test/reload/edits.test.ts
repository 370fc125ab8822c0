/**
 * Edits at random, right and wrong ones, against a model of what should be in force. Again, and for longer:
 *
 *   OUTRIDER_TEST_SEED=42 OUTRIDER_EDITS=500 npx vitest run test/reload/edits.test.ts
 */
import { expect, it } from "vitest";
import { Random } from "../end-to-end/random.ts";
import { component, Project, subscription } from "./project.ts";

const seed = Number(process.env["OUTRIDER_TEST_SEED"] ?? Date.now() % 2 ** 31);
const edits = Number(process.env["OUTRIDER_EDITS"] ?? 40);
const random = new Random(seed);
const pick = <T>(...all: readonly T[]) => all[random.below(all.length)]!;

/** A document as the model knows it. */
interface Document {
  readonly name: string;
  /** What it makes, other than a mistake. */
  readonly makes: "state" | "pubsub" | "subscription" | "mistake";
  /** The same for what need not be opened again. */
  readonly identity: string;
  /** The component of a subscription. */
  readonly pubsub: string;
  readonly text: string;
}

function state(name: string): Document {
  const prefix = pick("none", "name");
  const text = component(name, "state.in-memory", { keyPrefix: prefix });
  return { name, makes: "state", identity: prefix, pubsub: "", text };
}

function pubsub(name: string): Document {
  const retentionAge = pick("1m", "2m");
  const text = component(name, "pubsub.in-memory", { retentionAge });
  return { name, makes: "pubsub", identity: retentionAge, pubsub: "", text };
}

function declared(name: string): Document {
  const route = pick("r1", "r2");
  const to = pick("p1", "p2", "nowhere");
  return {
    name,
    makes: "subscription",
    identity: route,
    pubsub: to,
    text: subscription(name, to, "t", route),
  };
}

function mistake(): Document {
  const text = pick(
    component("s1", "state.nothing"),
    component("s1", "state.in-memory", { keyprefixx: "none" }),
    component("p1", "pubsub.in-memory", { retentionAge: "soon" }),
    "---\nkind: Component\napiVersion: dapr.io/v1alpha2\nmetadata: {name: x}\n",
    "---\nkind: [\n",
    "---\nkind: Subscription\napiVersion: dapr.io/v2alpha1\nmetadata: {name: d1}\nspec: {pubsubname: p1}\n",
  );
  return { name: "", makes: "mistake", identity: "", pubsub: "", text };
}

function anyDocument(): Document {
  switch (random.below(10)) {
    case 0:
      return mistake();
    case 1:
    case 2:
      return declared(pick("d1", "d2"));
    case 3:
    case 4:
    case 5:
      return pubsub(pick("p1", "p2"));
    default:
      return state(pick("s1", "s2", "s3"));
  }
}

/** What the folder's files make together; undefined: there is a mistake. */
function inForce(files: ReadonlyMap<string, readonly Document[]>): ReadonlyMap<string, Document> | undefined {
  const all = [...files.values()].flat();
  const byName = new Map(all.map((each) => [each.name, each]));
  const sound = all.every(
    ({ makes, pubsub: to }) =>
      makes !== "mistake" && (makes !== "subscription" || byName.get(to)?.makes === "pubsub"),
  );
  return sound && byName.size === all.length ? byName : undefined;
}

it(`what is in force is what the last sound files say, with seed ${seed}`, {
  timeout: 120_000 + edits * 2000,
}, async () => {
  await using project = await Project.start({});
  const { app } = project;
  using stream = app.subscribe([{ component: "p1", topic: "never", group: "g" }]);
  let files: ReadonlyMap<string, readonly Document[]> = new Map();
  let current: ReadonlyMap<string, Document> = new Map();
  /** What stores have under the key "k". */
  const kept = new Map<string, string>();
  for (let edit = 0; edit < edits; edit++) {
    const name = pick("a.yaml", "b.yaml", "c.yaml");
    const next = new Map(files);
    // A folder that has had a mistake for a while is put right.
    if (random.below(4) === 0 || (!inForce(files) && random.below(2) === 0)) next.delete(name);
    else next.set(name, Array.from({ length: random.between(0, 2) }, anyDocument));
    if (!next.has(name) && !files.has(name)) continue;
    const text = next
      .get(name)
      ?.map((each) => each.text)
      .join("");
    files = next;
    const wanted = inForce(files);
    const what = `edit ${edit}, ${name}: ${text ?? "removed"}`;
    if (wanted) await project.apply(name, text);
    else await project.refuse(name, text ?? "");
    if (wanted) {
      for (const [each, { makes, identity }] of current)
        if (makes === "state" && wanted.get(each)?.identity !== identity) kept.delete(each);
      current = wanted;
    }
    const makes = (block: "state" | "pubsub") =>
      [...current.values()].filter((each) => each.makes === block).map((each) => each.name);
    const components = (["state", "pubsub"] as const).flatMap((block) =>
      makes(block).length > 0 ? makes(block) : [block],
    );
    expect(Object.keys(await project.components()), what).toEqual(components.toSorted());
    for (const store of makes("state")) {
      const { item } = await app.state.get({ component: store, key: "k" });
      expect(item && Buffer.from(item.value).toString(), `${what}\n${store}`).toBe(kept.get(store));
      await app.state.set({ component: store, key: "k", value: Buffer.from(String(edit)) });
      kept.set(store, String(edit));
    }
    for (const { name: own, identity, makes: kind, pubsub: to } of current.values()) {
      if (kind !== "subscription") continue;
      using reading = app.subscribe([
        { declared: own, group: `${own}-${edit}`, start: { at: { case: "latest", value: true } } },
      ]);
      await reading.heard("opened");
      await app.pubsub.publish({ component: to, topic: "t", outgoing: { event: {} } });
      expect((await reading.delivered(1))[0]!.route, what).toBe(identity);
    }
  }
  expect(stream.said.filter(({ case: what }) => what !== "opened" && what !== "closed")).toEqual([]);
});
