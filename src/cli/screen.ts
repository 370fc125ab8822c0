/** What `outrider run` says when it serves: on one screen, what, where, with what, and what to try. */
import type { SidecarConfiguration } from "../assembly.ts";
import { type Runtime, reachable } from "../runtime.ts";
import { version } from "../version.ts";
import { paint } from "./terminal.ts";

/** What the screen tells of. */
export interface ScreenOptions {
  readonly appId: string;
  /** How to call this program. */
  readonly program: string;
  readonly configuration: SidecarConfiguration;
  readonly dataDirectory: string;
  readonly runtime: Runtime;
  /** Whether every component that must be there is open. */
  readonly open: boolean;
  /** The ports that were wanted. */
  readonly asked: Readonly<Record<"grpc" | "http" | "metrics", number>>;
}

const speaks = {
  grpc: "gRPC, for applications in any language",
  http: "Connect, gRPC-Web, and JSON for curl",
  metrics: "Prometheus metrics",
  public: "health and metadata",
  internal: "other sidecars",
} as const;

/** The screen, without a line end after it. */
export function readyScreen(options: ScreenOptions, color: boolean): string {
  const { appId, configuration, dataDirectory, open, program, runtime } = options;
  const bold = (text: string) => paint(color, "bold", text);
  const dim = (text: string) => paint(color, "dim", text);
  const ports = runtime.ports.map(({ name, address, port }) => {
    const asked = name in options.asked ? options.asked[name as keyof typeof options.asked] : port;
    const moved = port === asked || asked === 0 ? "" : paint(color, "yellow", ` (${asked} is taken)`);
    return `  ${name.padEnd(8)} ${`${reachable(address)}:${port}`.padEnd(22)} ${dim(speaks[name])}${moved}`;
  });
  const width = Math.max(0, ...configuration.components.map(({ name }) => name.length));
  const typeWidth = Math.max(0, ...configuration.components.map(({ component }) => component.type.length));
  const components = configuration.components.map(({ name, component, source }) => {
    const place = source ? `${source.file}:${source.line}` : "by default";
    return `  ${name.padEnd(width)}  ${component.type.padEnd(typeWidth)}  ${dim(place)}`;
  });
  const http = runtime.ports.find(({ name }) => name === "http")!;
  const url = `http://${reachable(http.address)}:${http.port}`;
  return [
    "",
    `${bold(`Outrider ${version}`)} serves ${bold(appId)}${open ? "" : paint(color, "yellow", ", and waits for components that are not there yet")}`,
    ...ports,
    "",
    bold("Components"),
    ...(components.length > 0 ? components : ["  none"]),
    ...(configuration.components.some(({ component }) => component.type.endsWith(".sqlite"))
      ? [dim(`  data in ${dataDirectory}`)]
      : []),
    "",
    bold("Try, in another terminal"),
    `  ${program} subscribe orders`,
    `  ${program} publish orders '{"total": 42}'`,
    `  curl -s ${url}/outrider.state.v1.StateService/Get --json '{"key": "greeting"}'`,
    "",
    open ? "Ready." : "Live.",
  ].join("\n");
}
