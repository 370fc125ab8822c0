/** The TCP ports that a process listens on, by what Linux says. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** The state LISTEN, as the kernel writes it. */
const listening = "0A";

/** Empty when it listens on none. Throws when there is no such process, or no /proc. */
export function listeningPorts(pid: number): number[] {
  const sockets = new Set(readdirSync(`/proc/${pid}/fd`).map((fd) => target(`/proc/${pid}/fd/${fd}`)));
  return ["tcp", "tcp6"].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, "utf8")
      .trim()
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === listening && sockets.has(`socket:[${fields[9]}]`))
      .map((fields) => Number.parseInt(fields[1]!.split(":")[1]!, 16)),
  );
}

function target(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    // Closed since the folder was read.
    return "";
  }
}
