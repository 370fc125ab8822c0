/** `outrider metadata`. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { Command } from "commander";
import {
  type ComponentStatus,
  ComponentStatusSchema,
  type GetMetadataResponse,
  type Reload,
} from "../../gen/outrider/runtime/v1/runtime_pb.ts";
import { addSidecarOptions, jsonOption, type SidecarOptions } from "./options.ts";
import { paint, print, printJson, type Terminal } from "./terminal.ts";

/** The command. */
export function metadataCommand(terminal: Terminal): Command {
  const command = new Command("metadata")
    .summary("tell what a sidecar is and does")
    .description(
      "Tells what a running sidecar is: ports, components and what they can do, open subscriptions.",
    )
    .addOption(jsonOption("everything as one line of JSON"))
    .action((options: SidecarOptions & { readonly json?: boolean }) => metadata(terminal, options));
  return addSidecarOptions(command);
}

async function metadata(
  terminal: Terminal,
  options: SidecarOptions & { readonly json?: boolean },
): Promise<void> {
  const { callFailure, connectSidecar } = await import("./client.ts");
  const { runtime, address } = await connectSidecar(terminal, options);
  try {
    const answer = await runtime.getMetadata({}, { signal: terminal.interrupted });
    if (options.json) await printJson(terminal, asJson(answer));
    else await print(terminal, `${asText(answer, terminal.colorOut).join("\n")}\n`);
  } catch (error) {
    throw callFailure(error, address);
  }
}

function asJson(answer: GetMetadataResponse): Record<string, unknown> {
  return {
    appId: answer.appId,
    version: answer.version,
    instanceId: answer.instanceId,
    startedAt: answer.startedAt && timestampDate(answer.startedAt).toISOString(),
    ports: answer.ports.map(({ name, address, port }) => ({ name, address, port })),
    components: answer.components.map(({ $typeName: _, status, ...component }) => ({
      ...component,
      status: statusName(status),
    })),
    subscriptions: answer.subscriptions.map(({ $typeName: _, lag, trimmedUnsettled, ...subscription }) => ({
      ...subscription,
      ...(lag === undefined ? {} : { lag: Number(lag) }),
      trimmedUnsettled: Number(trimmedUnsettled),
    })),
    subscribeStreams: answer.subscribeStreams,
    dataDirectory: answer.dataDirectory,
    ...(answer.lastReload && { lastReload: reloadJson(answer.lastReload) }),
  };
}

function reloadJson({ at, applied, mistakes, needRestart }: Reload): Record<string, unknown> {
  return { at: at && timestampDate(at).toISOString(), applied, mistakes, needRestart };
}

function asText(answer: GetMetadataResponse, color: boolean): string[] {
  const started = answer.startedAt ? timestampDate(answer.startedAt).toISOString() : "";
  const bold = (text: string) => paint(color, "bold", text);
  const lines = [
    `${bold(answer.appId)}  outrider ${answer.version}, instance ${answer.instanceId}, since ${started}`,
    ...answer.ports.map(({ name, address, port }) => `${name.padEnd(8)} ${address}:${port}`),
  ];
  if (answer.dataDirectory) lines.push(`${"data".padEnd(8)} ${answer.dataDirectory}`);
  lines.push("", bold("Components"));
  lines.push(
    ...table(
      answer.components.map(({ name, type, status, statusMessage, capabilities, declaredIn }) => [
        name,
        type,
        statusName(status) + (statusMessage ? ` (${statusMessage})` : ""),
        declaredIn || "by default",
        capabilities.join(" "),
      ]),
    ),
  );
  lines.push("", bold(`Subscriptions, on ${answer.subscribeStreams} open streams`));
  lines.push(
    ...table(
      answer.subscriptions.map((each) => [
        each.component,
        each.topic,
        each.group || "(broadcast)",
        `${each.streams} streams`,
        `${each.inFlight}/${each.maxInFlight} in flight`,
        each.lag === undefined ? "" : `lag ${each.lag}`,
        each.trimmedUnsettled > 0n ? `${each.trimmedUnsettled} trimmed unsettled` : "",
        each.highestAttempt > 1 ? `attempt ${each.highestAttempt}` : "",
      ]),
    ),
  );
  const { applied = true, mistakes = [], needRestart = [] } = answer.lastReload ?? {};
  if (!applied) {
    lines.push("", paint(color, "red", "The YAML has changed and is not in force:"));
    lines.push(...mistakes.map((mistake) => `  ${mistake}`));
  }
  if (needRestart.length > 0)
    lines.push("", `The Configuration has changed; at the next start: ${needRestart.join(", ")}`);
  return lines;
}

/** Rows with their columns under each other. */
function table(rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return ["  none"];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ")}`.trimEnd(),
  );
}

function statusName(status: ComponentStatus): string {
  return ComponentStatusSchema.value[status]?.localName.toLowerCase() ?? "unknown";
}
