/** Files in a temporary directory, and a build with components that open nothing. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import { z } from "zod";
import { type Component, component } from "../../src/component.ts";
import type { DefaultComponent } from "../../src/config/components.ts";
import { choice, durationMs, flag, integer, text } from "../../src/config/fields.ts";
import { type LoadOptions, load } from "../../src/config/load.ts";
import { ConfigError } from "../../src/config/remarks.ts";

function open(): never {
  throw new Error("a configuration opens nothing");
}

/** Like a real list: two blocks, required and optional fields. */
export const components: readonly Component[] = [
  component({
    type: "state.redis",
    versions: ["v1", "v2"],
    schema: z.object({
      redisHost: text(),
      redisPassword: text().default(""),
      redisDB: integer(0, 15).default(0),
      redisType: choice("node", "cluster"),
      enableTLS: flag().default(false),
      dialTimeout: durationMs().default(5000),
    }),
    open,
  }),
  component({
    type: "state.sqlite",
    versions: ["v1"],
    schema: z.object({ connectionString: text().default("") }),
    open,
  }),
  component({
    type: "pubsub.sqlite",
    versions: ["v1"],
    schema: z.object({ connectionString: text().default("") }),
    open,
  }),
  component({
    type: "pubsub.in-memory",
    versions: ["v1"],
    schema: z.object({}),
    open,
  }),
];

const blockSettings = {
  state: z.object({ keyPrefix: text().default("appid") }),
  pubsub: z.object({ consumerID: text().optional() }),
};

/** A build with these components, of which two are there by default. */
export const build = {
  components,
  /** What the blocks have in every component's metadata. */
  blockSettings: async () => blockSettings,
  defaults: components.flatMap((each): DefaultComponent<typeof blockSettings>[] => {
    if (!each.type.endsWith(".sqlite")) return [];
    const settings = each.schema.parse({});
    return each.block === "state"
      ? [{ component: each, settings, blockSettings: blockSettings.state.parse({}) }]
      : [{ component: each, settings, blockSettings: blockSettings.pubsub.parse({}) }];
  }),
};

/** Writes files below a new directory, which is removed after the test; returns its path. */
export async function directory(files: Readonly<Record<string, string | Uint8Array>>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "outrider-config-"));
  onTestFinished(() => rm(root, { recursive: true }));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, name)), { recursive: true });
    await writeFile(join(root, name), content);
  }
  return root;
}

/** Options that read the files of a directory. */
export function optionsFor(
  path: string,
  overrides: Partial<LoadOptions<typeof blockSettings>> = {},
): LoadOptions<typeof blockSettings> {
  return {
    resourcesPaths: [path],
    configPaths: [],
    appId: "shop",
    environment: {},
    ...build,
    ...overrides,
  };
}

/** Loads one file, `a.yaml`, and others beside it. */
export async function loadText(
  yaml: string,
  overrides: Partial<LoadOptions<typeof blockSettings>> = {},
  others: Readonly<Record<string, string>> = {},
) {
  return await load(optionsFor(await directory({ "a.yaml": yaml, ...others }), overrides));
}

/** The mistakes that a load ends with, as lines without the directory. */
export async function mistakesOf(loading: Promise<unknown>): Promise<readonly string[]> {
  const error = await loading.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ConfigError)) throw error ?? new Error("the configuration was accepted");
  return error.message.split("\n").map((line) => line.replace(/^\S*outrider-config-\w+\/?/, ""));
}

/** A Component document. */
export function componentYaml(name: string, type: string, metadata = "", rest = ""): string {
  const items = metadata === "" ? "" : `  metadata:\n${metadata.replace(/^/gm, "    ")}\n`;
  return `apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: ${name}\nspec:\n  type: ${type}\n${items}${rest}`;
}
