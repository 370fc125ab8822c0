/** A program that uses every server and closes it: it ends by itself when nothing is left. */
import { startMetricsServer } from "../../src/server/metrics.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";
import { mountsOf, protocols, Scene, setStage } from "./service.ts";

for (const protocol of protocols) {
  const scene = new Scene();
  const stage = await setStage(protocol, mountsOf(scene));
  await stage.state.get({ key: "k" });
  const idle = stage.state.watch({ selector: { case: "key", value: "idle" } })[Symbol.asyncIterator]();
  for (let i = 0; i < 3; i++) await idle.next();
  const end = idle.next().catch(() => {});
  await stage.server.close(20);
  await end;
}
const metrics = await startMetricsServer({ host: "127.0.0.1", port: 0, telemetry: quietTelemetry() });
await (await fetch(`http://127.0.0.1:${metrics.port}/metrics`)).text();
await metrics.close(0);
