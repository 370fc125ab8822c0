/** Finds a running sidecar and talks to it. The one file of the command line that knows how. */
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { PubSubService } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { RuntimeService } from "../../gen/outrider/runtime/v1/runtime_pb.ts";
import { StateService } from "../../gen/outrider/state/v1/state_pb.ts";
import { findDataDirectory } from "../data-directory.ts";
import { runningSidecars } from "../sidecars.ts";
import type { SidecarOptions } from "./options.ts";
import { CommandFailure, type Terminal, usageFailure } from "./terminal.ts";

const defaultGrpcPort = 50001;
/** How often a silent connection is asked whether it lives, in milliseconds: a sidecar that is gone is noticed. */
const pingIntervalMs = 10_000;
/** What answers may be at most, in bytes: as large as a sidecar can be configured to send. */
const readMaxBytes = 256 * 1024 * 1024;

/** The services of a running sidecar. */
export type SidecarClient = ReturnType<typeof clientOf>;

/** Finds the sidecar that the options mean. Throws when several could be meant. Connects with the first call. */
export async function connectSidecar(terminal: Terminal, options: SidecarOptions): Promise<SidecarClient> {
  return clientOf(await findSidecar(terminal, options), tokenOf(terminal));
}

function clientOf(address: string, token: string | undefined) {
  const authenticate: Interceptor = (next) => (request) => {
    if (token) request.header.set("outrider-api-token", token);
    return next(request);
  };
  const baseUrl = /^https?:\/\//.test(address) ? address : `http://${address}`;
  const transport = createGrpcTransport({
    baseUrl,
    interceptors: [authenticate],
    pingIntervalMs,
    readMaxBytes,
  });
  return {
    address,
    state: createClient(StateService, transport),
    pubsub: createClient(PubSubService, transport),
    runtime: createClient(RuntimeService, transport),
  };
}

function tokenOf({ env }: Terminal): string | undefined {
  // The first of several: a sidecar takes any of them while they are being changed.
  return (env["OUTRIDER_API_TOKEN"] || env["DAPR_API_TOKEN"])?.split(",", 1)[0]?.trim();
}

/**
 * Where the sidecar is: what a flag says, else what the environment says (an
 * application that was started with `outrider run` has it), else the only one
 * that runs on the data directory, else the default port.
 */
async function findSidecar(terminal: Terminal, options: SidecarOptions): Promise<string> {
  const { env } = terminal;
  if (options.daprGrpcPort !== undefined) return `127.0.0.1:${options.daprGrpcPort}`;
  if (options.appId === undefined) {
    const endpoint = env["OUTRIDER_GRPC_ENDPOINT"] || env["DAPR_GRPC_ENDPOINT"];
    if (endpoint) return endpoint.replace(/^(dns|grpc):(\/\/)?/, "");
    const port = env["OUTRIDER_GRPC_PORT"] || env["DAPR_GRPC_PORT"];
    if (port) return `127.0.0.1:${port}`;
  }
  const directory = findDataDirectory(terminal.workingDirectory, options.dataDir ?? env["OUTRIDER_DATA_DIR"]);
  const all = await runningSidecars(directory);
  const found = all.filter(({ appId }) => options.appId === undefined || appId === options.appId);
  const [sidecar, another] = found;
  if (options.appId !== undefined && sidecar === undefined) {
    const others = all.length === 0 ? "none runs on" : `${namesOf(all)} run on`;
    throw usageFailure(`no sidecar of "${options.appId}" runs: ${others} ${directory}`);
  }
  if (another !== undefined && options.appId === undefined) {
    throw usageFailure(
      `several sidecars run here: choose one with --app-id (${namesOf(all)}) or --grpc-port`,
    );
  }
  return sidecar ? `${sidecar.grpcAddress}:${sidecar.grpcPort}` : `127.0.0.1:${defaultGrpcPort}`;
}

function namesOf(sidecars: readonly { readonly appId: string }[]): string {
  return [...new Set(sidecars.map(({ appId }) => appId))].toSorted().join(", ");
}

/** The reason that an error carries, such as "ETAG_MISMATCH"; "" when it has none. */
export function reasonIn(error: ConnectError): string {
  return error.findDetails(ErrorInfoSchema)[0]?.reason ?? "";
}

/** A subscription that was not opened, or ended by the sidecar's wish. */
export class SubscriptionRefused extends CommandFailure {
  /** As gRPC numbers them. */
  readonly code: Code;

  constructor(code: Code, message: string) {
    super(message);
    this.code = code;
  }
}

/** How a connection ends that nobody ended on purpose: what libraries make of resets, timeouts and ends. */
const brokenCodes: readonly Code[] = [
  Code.Unavailable,
  Code.Aborted,
  Code.Canceled,
  Code.DeadlineExceeded,
  Code.Internal,
  Code.Unknown,
];

/** Whether nothing was reached, or what was reached has gone: the same call may succeed later. */
export function isAway(error: unknown): boolean {
  if (error instanceof SubscriptionRefused) return error.code === Code.Unavailable;
  if (!(error instanceof ConnectError)) return false;
  // With a reason it is the sidecar that speaks, and it says whether trying again helps.
  return reasonIn(error) === "" ? brokenCodes.includes(error.code) : error.code === Code.Unavailable;
}

/** Makes what a call threw the failure of a command, in one line. */
export function callFailure(error: unknown, address: string): unknown {
  if (!(error instanceof ConnectError)) return error;
  // It was not the call that failed, but what was to be sent: a file that cannot be read.
  if (error.cause instanceof CommandFailure) return error.cause;
  const reason = reasonIn(error);
  if (reason !== "") return new CommandFailure(`${reason}: ${error.rawMessage}`);
  if (systemCodeOf(error) === "ECONNREFUSED") {
    return new CommandFailure(`no sidecar answers at ${address}; "outrider run" starts one`);
  }
  return new CommandFailure(`${Code[error.code].toUpperCase()}: ${error.rawMessage}`);
}

function systemCodeOf(error: ConnectError): string | undefined {
  const { cause } = error;
  return cause instanceof Error && "code" in cause ? String(cause.code) : undefined;
}
