/** `outrider check`: the same reading and checking, and a report of what would be loaded. */
import type { BlockSchemas } from "./components.ts";
import { readFiles } from "./files.ts";
import { assemble, type Configuration, documentsOf, type LoadOptions } from "./load.ts";
import { formatRemark, Remarks } from "./remarks.ts";
import type { Resource, Source } from "./resource.ts";

/** As for `load`, without the paths. Without an app id, resources are checked whatever their scopes are. */
export type CheckOptions<Schemas extends BlockSchemas> = Omit<
  LoadOptions<Schemas>,
  "resourcesPaths" | "configPaths" | "appId"
> & { readonly appId?: string };

/**
 * Checks files and directories of any of our kinds; a Configuration among them counts as if it had been
 * given with `--config`. Throws ConfigError with every mistake that there is.
 */
export async function check<Schemas extends BlockSchemas>(
  paths: readonly string[],
  options: CheckOptions<Schemas>,
): Promise<Configuration<Schemas>> {
  const remarks = new Remarks();
  const files = await readFiles(paths, remarks);
  const documents: Resource[] = [];
  for (const file of files) documents.push(...(await documentsOf(file, remarks)));
  return assemble(
    { ...options, appId: options.appId },
    {
      remarks,
      files: files.map(({ path }) => path),
      resources: documents.filter(({ kind }) => kind !== "Configuration"),
      configurations: documents.filter(({ kind }) => kind === "Configuration"),
    },
  );
}

/** What a configuration would load, as lines for a terminal. Has no value of any setting in it. */
export function describe({ components, subscriptions, others, notes }: Configuration): string {
  const rows: Row[] = [
    ...components.map(({ name, component, version, source }) => ({
      kind: "component",
      name,
      what: `${component.type} ${version}`,
      source,
    })),
    ...subscriptions.map(({ name, component, topic, source }) => ({
      kind: "subscription",
      name,
      what: `${component}/${topic}`,
      source,
    })),
    ...others.map(({ kind, name, source }) => ({
      kind,
      name,
      what: kind === "Resiliency" ? "policies" : "not used yet",
      source,
    })),
  ];
  const width = (column: "kind" | "name" | "what") => Math.max(0, ...rows.map((row) => row[column].length));
  const widths = { kind: width("kind"), name: width("name"), what: width("what") };
  const lines = rows.map(({ kind, name, what, source }) => {
    const place = source ? `${source.file}:${source.line}` : "built in, nothing of its kind is declared";
    return `${kind.padEnd(widths.kind)}  ${name.padEnd(widths.name)}  ${what.padEnd(widths.what)}  ${place}`;
  });
  return [...lines, ...notes.map((note) => `note: ${formatRemark(note)}`)].join("\n");
}

interface Row {
  readonly kind: string;
  readonly name: string;
  readonly what: string;
  readonly source: Source | undefined;
}
