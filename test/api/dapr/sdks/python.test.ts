/** Applications on Dapr's SDK for Python: `dapr`, with its extension for FastAPI and with that for gRPC. */
import { join } from "node:path";
import { shell } from "../../../examples/checkout.ts";
import { sdkFolder } from "./sdk-folder.ts";
import { describeTour } from "./tour.ts";

/** The interpreter that has the packages of python/requirements.txt. */
async function prepare(folder: string): Promise<string> {
  const python = join(sdkFolder("python"), "bin", "python");
  await shell(`'${python}' -c 'import dapr.ext.fastapi, dapr.ext.grpc, uvicorn'`, folder);
  return `'${python}' '${join(import.meta.dirname, "python", "tour.py")}'`;
}

// Neither extension subscribes in bulk.
const without = ["state.bulk-delete", "listen.gathered"] as const;

describeTour({
  language: "python",
  protocol: "http",
  on: "sqlite",
  prepare,
  // Nor does that for FastAPI have rules.
  without: [...without, "listen.routed"],
});
describeTour({
  language: "python",
  protocol: "grpc",
  on: "redis",
  prepare,
  without: [
    ...without,
    // The extension for gRPC knows topics only that it has listed itself.
    "listen.declared",
    // Streams of the asynchronous client have no token, whatever it is told: grpc.aio takes it for calls alone.
    "stream.async",
  ],
});
