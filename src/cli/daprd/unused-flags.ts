/** Flags that are taken because whoever starts a daprd gives them, and that change nothing here. */
import { readBoolean } from "../../config/booleans.ts";
import type { CommandLine, FlagName } from "./command-line.ts";

const noActors = "there are no actors";
const noJobs = "there are no jobs";
const noControlPlane = "there is no control plane: resources are files";

/** Why each changes nothing. */
export const unusedFlags = {
  "actors-disseminate-timeout": noActors,
  "actors-service": noActors,
  "app-binding-options-timeout": "there are no bindings",
  "control-plane-address": noControlPlane,
  "control-plane-namespace": noControlPlane,
  "control-plane-trust-domain": noControlPlane,
  "disable-builtin-k8s-secret-store": noControlPlane,
  "enable-mtls": "sidecars do not talk to each other",
  "enable-profiling": "NODE_OPTIONS=--cpu-prof profiles the process",
  kubeconfig: noControlPlane,
  mode: noControlPlane,
  "placement-host-address": noActors,
  "profile-port": "NODE_OPTIONS=--inspect opens a port for profilers",
  "reminders-service": noActors,
  "scheduler-host-address": noJobs,
  "scheduler-job-streams": noJobs,
  "sentry-address": noControlPlane,
  "sentry-request-jwt-audiences": noControlPlane,
  "unix-domain-socket": "the ports are TCP",
} as const satisfies Partial<Record<FlagName, string>>;

/** What would be missed by whoever gives these such a value. */
const missed: readonly (readonly [keyof typeof unusedFlags, (value: string) => boolean])[] = [
  ["enable-mtls", (value) => readBoolean(value) === true],
  ["mode", (value) => /^kubernetes$/i.test(value)],
  ["unix-domain-socket", (value) => value !== ""],
];

/** The flags that were given and ask for something that there is not, and why there is not. */
export function missedFlags(line: CommandLine): readonly { readonly flag: string; readonly why: string }[] {
  return missed
    .filter(([name, asks]) => asks(line.text(name) ?? ""))
    .map(([name]) => ({ flag: `--${name}=${line.text(name)}`, why: unusedFlags[name] }));
}
