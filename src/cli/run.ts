/** `outrider run`: its flags. What it does is in `run-sidecar.ts`. */
import { Command, Option } from "commander";
import { appOptions } from "./app-options.ts";
import { commaSeparated, durationMs, gather, onOff, portNumber, sizeBytes } from "./options.ts";
import type { RunOptions } from "./run-sidecar.ts";
import { CommandFailure, exitCodes, type Terminal, usageFailure } from "./terminal.ts";

const loopback = "127.0.0.1";
/** As in Dapr, in milliseconds. */
const defaultGraceMs = 5000;

/** The command. */
export function runCommand(terminal: Terminal): Command {
  const command = new Command("run")
    .summary("run a sidecar, and an application beside it")
    .description(
      "Runs a sidecar. With a command after --, runs that as the application beside it: its output is " +
        "prefixed, its exit code passed on, and it finds the sidecar through its environment.",
    )
    .usage("[options] [-- command...]")
    .argument("[command...]", "the application, after --")
    .action(async (application: string[], options: RunOptions & Record<string, unknown>) => {
      refuseUnsupported(options);
      const { runSidecar } = await import("./run-sidecar.ts");
      const exitCode = await runSidecar(terminal, application, options);
      if (exitCode !== exitCodes.success) throw new CommandFailure("", exitCode);
    });
  for (const option of [...options(), ...appOptions(), ...unsupported.map(unsupportedOption)])
    command.addOption(option);
  return command;
}

function options(): Option[] {
  const port = (flags: string, what: string) => new Option(flags, what).argParser(portNumber);
  return [
    new Option("--app-id <id>", "id of the application (default: name of the working directory)"),
    new Option("--resources, --resources-path <path>", "YAML file or directory; repeatable").argParser(
      gather,
    ),
    new Option("-d <path>", "the same").argParser(gather),
    new Option("--components-path <path>", "the same").argParser(gather).hideHelp(),
    new Option("-c, --config <path>", "Configuration file; repeatable").argParser(gather),
    new Option(
      "--data-dir <path>",
      "data of embedded stores (default: .outrider in the project, or OUTRIDER_DATA_DIR)",
    ),
    port("--grpc-port, --dapr-grpc-port <port>", "gRPC port (default: 50001, or a free one)"),
    port("--http-port, --dapr-http-port <port>", "HTTP port (default: 3500, or a free one)"),
    port("--metrics-port <port>", "metrics port (default: 9090, or a free one)"),
    new Option(
      "--listen-address, --dapr-listen-addresses <list>",
      "addresses to listen on, separated by commas",
    ).default(loopback),
    new Option("--metrics-listen-address <address>", "address of the metrics").default(loopback),
    port("--dapr-public-port <port>", "port for health and metadata alone, without a token (default: none)"),
    new Option("--dapr-public-listen-address <address>", "address of that port").default(loopback),
    new Option(
      "--allowed-origins <list>",
      "origins whose pages may call over HTTP, separated by commas; * for all (default: none)",
    ).argParser(commaSeparated),
    new Option("--enable-metrics [on]", "serve metrics (default: true)").argParser(onOff).preset("true"),
    new Option(
      "--max-message-size, --max-body-size <size>",
      "longest message, as in 4Mi (default: 4Mi)",
    ).argParser(sizeBytes),
    new Option(
      "--max-header-size, --read-buffer-size <size>",
      "longest header list, as in 4Ki (default: 4Ki)",
    ).argParser(sizeBytes),
    new Option(
      "--grace, --dapr-graceful-shutdown-seconds <duration>",
      "how long stopping waits for what is in flight",
    )
      .argParser(durationMs)
      .default(defaultGraceMs, "5s"),
    new Option(
      "--hot-reload-reconcile-interval <duration>",
      "how often it is looked for changes of the YAML that the platform does not tell of",
    ).argParser(durationMs),
    new Option("--log-level <level>", "what is logged")
      .choices(["debug", "info", "warn", "error", "fatal"])
      .default("info"),
    new Option("--log-as-json [on]", "log lines of JSON").argParser(onOff).preset("true"),
    new Option("--enable-api-logging [on]", "a log line for each call").argParser(onOff).preset("true"),
  ];
}

/** A flag that daprd has, and that means nothing here yet. Accepting it would be a promise. */
interface UnsupportedFlag {
  readonly flags: string;
  /** What will bring it, or what to do instead. */
  readonly why: string;
}

const bindings = "there are no bindings";
const controlPlane = "there is no control plane";

const unsupported: readonly UnsupportedFlag[] = [
  { flags: "--app-binding-options-timeout <duration>", why: bindings },
  { flags: "--mode <mode>", why: controlPlane },
  { flags: "--control-plane-address <address>", why: controlPlane },
  { flags: "--control-plane-trust-domain <domain>", why: controlPlane },
  { flags: "--control-plane-namespace <namespace>", why: controlPlane },
  { flags: "--sentry-address <address>", why: controlPlane },
  { flags: "--sentry-request-jwt-audiences <list>", why: controlPlane },
  { flags: "--placement-host-address <address>", why: controlPlane },
  { flags: "--scheduler-host-address <address>", why: controlPlane },
  { flags: "--scheduler-job-streams <count>", why: controlPlane },
  { flags: "--actors-service <service>", why: controlPlane },
  { flags: "--reminders-service <service>", why: controlPlane },
  { flags: "--actors-disseminate-timeout <duration>", why: controlPlane },
  { flags: "--disable-builtin-k8s-secret-store [on]", why: controlPlane },
  { flags: "--enable-mtls [on]", why: "sidecars do not talk to each other yet" },
  { flags: "--dapr-internal-grpc-port <port>", why: "sidecars do not talk to each other yet" },
  { flags: "--dapr-internal-grpc-listen-address <address>", why: "sidecars do not talk to each other yet" },
  { flags: "-u, --unix-domain-socket <path>", why: "ports are TCP only" },
  { flags: "--enable-profiling [on]", why: "use node --cpu-prof" },
  { flags: "--profile-port <port>", why: "use node --inspect" },
  { flags: "--wait [on]", why: "use the ready endpoint of the HTTP port" },
  { flags: "--dapr-http-max-request-size <megabytes>", why: "use --max-body-size" },
  { flags: "--dapr-http-read-buffer-size <kilobytes>", why: "use --read-buffer-size" },
  { flags: "-f, --run-file <path>", why: "run each application by itself" },
];

function unsupportedOption({ flags }: UnsupportedFlag): Option {
  return new Option(flags).hideHelp();
}

function refuseUnsupported(given: Readonly<Record<string, unknown>>): void {
  const refused = unsupported
    .map(({ flags, why }) => ({ option: new Option(flags), why }))
    .filter(({ option }) => given[option.attributeName()] !== undefined)
    .map(({ option, why }) => `${option.long} is not supported yet: ${why}`);
  if (refused.length > 0) throw usageFailure(refused.join("\noutrider: "));
}
