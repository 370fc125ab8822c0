/** Where programs of a crash test find the sidecars, which have another port after each start. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const fileOf = (directory: string, sidecar: number) => join(directory, `sidecar-${sidecar}.port`);

/** Tells everybody the gRPC port of a sidecar. */
export function writePort(directory: string, sidecar: number, port: number): void {
  // Written aside and renamed: nobody reads half of it.
  const file = fileOf(directory, sidecar);
  writeFileSync(`${file}.new`, String(port));
  renameSync(`${file}.new`, file);
}

/** The port that a sidecar has, or had before it was killed. */
export function readPort(directory: string, sidecar: number): number {
  return Number(readFileSync(fileOf(directory, sidecar), "utf8"));
}
