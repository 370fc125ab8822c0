/** Where the programs of the servers are: on the PATH, or where .ci/servers.sh puts them. */
import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

const folder = process.env["OUTRIDER_TEST_TOOLS"] ?? join(homedir(), ".cache", "outrider-test-tools");
const versions = {
  kafka: "4.3.1",
  "nats-server": "v2.15.2",
  "toxiproxy-server": "v2.5.0",
  "valkey-server": "9.1.2",
} as const;

/** The folder with Kafka's jars. Undefined if they are not there. */
export function kafkaJars(): string | undefined {
  const path = join(folder, `kafka-${versions.kafka}`);
  return existsSync(path) ? path : undefined;
}

/** Where what is made once for many test runs is kept. */
export function toolsFolder(): string {
  return folder;
}

/** The path of a program. Undefined if it is not there. */
export function findProgram(name: string): string | undefined {
  const version = name in versions ? versions[name as keyof typeof versions] : undefined;
  const own = version === undefined ? [] : [join(folder, "bin", `${name}-${version}`)];
  const path = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return [...own, ...path.map((each) => join(each, name)), ...postgresql(name)].find(isExecutable);
}

/** The path of a program that is there. */
export function program(name: string): string {
  const path = findProgram(name);
  if (path === undefined) throw new Error(`${name} is not installed: .ci/servers.sh does it`);
  return path;
}

/** Debian keeps the server's programs, by version, out of the PATH. */
function postgresql(name: string): string[] {
  const root = "/usr/lib/postgresql";
  if (!existsSync(root)) return [];
  const newestFirst = readdirSync(root).sort((one, other) => Number(other) - Number(one));
  return newestFirst.map((version) => join(root, version, "bin", name));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
