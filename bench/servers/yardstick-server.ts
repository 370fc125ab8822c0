/** The yardstick, started. */
import { once } from "node:events";
import { type Server, startNode, stop } from "./child.ts";

/** Starts `yardstick.ts` and waits until it listens. */
export async function startYardstick(): Promise<Server> {
  const child = startNode(["bench/yardstick.ts"]);
  child.stderr.pipe(process.stderr);
  const [text] = (await once(child.stdout, "data")) as [Buffer];
  return { pid: child.pid!, grpcPort: Number(text), stop: () => stop(child) };
}
