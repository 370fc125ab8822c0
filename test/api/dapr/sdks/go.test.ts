/** Applications on Dapr's SDK for Go: `github.com/dapr/go-sdk`. */
import { join } from "node:path";
import { shell } from "../../../examples/checkout.ts";
import { describeTour } from "./tour.ts";

/** Compiles it: .ci/languages.sh has done so before, and Go remembers. */
async function prepare(folder: string): Promise<string> {
  const program = join(folder, "tour");
  await shell(`go build -o '${program}' .`, join(import.meta.dirname, "go"));
  return `'${program}'`;
}

// It has no bulk subscriptions, and needs no asynchronous client.
const without = ["listen.gathered", "stream.async"] as const;

describeTour({ language: "go", protocol: "http", on: "redis", prepare, without });
describeTour({ language: "go", protocol: "grpc", on: "sqlite", prepare, without });
