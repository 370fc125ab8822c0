/** Applications on Dapr's SDK for JavaScript: `@dapr/dapr`, which speaks both protocols in both directions. */
import { copyFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { sdkFolder } from "./sdk-folder.ts";
import { describeTour } from "./tour.ts";

/** A project with the packages of javascript/package-lock.json. */
async function prepare(folder: string): Promise<string> {
  for (const name of ["node_modules", "package.json"])
    await symlink(join(sdkFolder("javascript"), name), join(folder, name));
  await copyFile(join(import.meta.dirname, "javascript", "tour.js"), join(folder, "tour.js"));
  return "node tour.js";
}

const without = [
  "state.bulk-delete",
  // It has no streaming subscriptions.
  "stream.json",
  "stream.retry",
  "stream.drop",
  "stream.async",
] as const;
/** Its handlers are given data, and nothing about it. */
const outcomes = {
  "listen.json": [{ id: 1 }],
  "listen.text": ["hello"],
  "listen.declared": [{ id: 2 }],
  "listen.routed": [{ id: 4 }],
};

describeTour({ language: "javascript", protocol: "http", on: "sqlite", prepare, without, outcomes });
describeTour({
  language: "javascript",
  protocol: "grpc",
  on: "redis",
  prepare,
  // With gRPC it knows topics only that it has listed itself.
  without: [...without, "listen.declared"],
  outcomes,
});
