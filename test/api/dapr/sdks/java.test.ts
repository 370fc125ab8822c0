/** Applications on Dapr's SDK for Java: `io.dapr:dapr-sdk`, with `dapr-sdk-springboot` and without. */
import { join } from "node:path";
import { shell } from "../../../examples/checkout.ts";
import { sdkFolder } from "./sdk-folder.ts";
import { describeTour } from "./tour.ts";

/** Compiles it with the libraries of java/pom.xml. */
async function prepare(folder: string): Promise<string> {
  const path = `'${folder}:${sdkFolder("java")}/*'`;
  await shell(`javac -parameters -d '${folder}' -cp ${path} *.java`, join(import.meta.dirname, "java"));
  return `java -cp ${path} tour.Tour`;
}

const without = [
  "state.bulk-delete",
  "metadata.set",
  // Its streaming subscriptions have no dead letters.
  "stream.drop",
  "stream.async",
] as const;

describeTour({ language: "java", protocol: "http", on: "sqlite", prepare, without });
describeTour({ language: "java", protocol: "grpc", on: "redis", prepare, without });
