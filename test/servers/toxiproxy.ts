/** Toxiproxy: a network that is cut, slow or narrow. */
import { oncePerRun } from "./once.ts";
import { freePort } from "./ports.ts";
import { serverFolder } from "./run-folder.ts";
import { ServerProcess } from "./server.ts";
import { program } from "./tools.ts";

/** What can be wrong with a connection. Times in milliseconds, `rate` in kilobytes a second. */
export type Toxic =
  | { readonly type: "latency"; readonly latency: number; readonly jitter?: number }
  | { readonly type: "bandwidth"; readonly rate: number }
  /** Stops all data, and closes after so long; 0 never closes. */
  | { readonly type: "timeout"; readonly timeout: number }
  | { readonly type: "reset_peer"; readonly timeout: number }
  | { readonly type: "slow_close"; readonly delay: number }
  | { readonly type: "limit_data"; readonly bytes: number };

/** A port that leads to a server, and what may happen on the way. */
export interface Proxy extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  /** Closes every connection, and refuses new ones until `mend`. */
  cut(): Promise<void>;
  /** Takes every fault away. */
  mend(): Promise<void>;
  /** Adds a fault. Upstream is towards the server. */
  poison(toxic: Toxic, direction?: "upstream" | "downstream"): Promise<void>;
}

/**
 * A proxy to a port on 127.0.0.1, on a free port or the one that is asked for. For Kafka:
 * `openProxy(kafka.ports.proxied, kafka.ports.proxy)`.
 */
export async function openProxy(upstreamPort: number, listenPort?: number): Promise<Proxy> {
  const { port: control } = await sharedToxiproxy();
  const port = listenPort ?? (await freePort());
  const name = `p${port}`;
  const call = async (method: string, path: string, body?: object): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${control}${path}`, {
      method,
      ...(body && { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`toxiproxy: ${method} ${path}: ${text}`);
  };
  const settings = { listen: `127.0.0.1:${port}`, upstream: `127.0.0.1:${upstreamPort}` };
  const poisons = new Set<string>();
  const clean = async () => {
    for (const each of poisons) await call("DELETE", `/proxies/${name}/toxics/${each}`);
    poisons.clear();
  };
  await call("POST", "/proxies", { name, ...settings, enabled: true });
  return {
    host: "127.0.0.1",
    port,
    cut: () => call("POST", `/proxies/${name}`, { ...settings, enabled: false }),
    async mend() {
      await clean();
      await call("POST", `/proxies/${name}`, { ...settings, enabled: true });
    },
    async poison({ type, ...attributes }, direction = "downstream") {
      const toxic = `${type}-${direction}`;
      await call("POST", `/proxies/${name}/toxics`, { name: toxic, type, stream: direction, attributes });
      poisons.add(toxic);
    },
    [Symbol.asyncDispose]: () => call("DELETE", `/proxies/${name}`),
  };
}

function sharedToxiproxy(): Promise<{ readonly port: number }> {
  return oncePerRun("toxiproxy", async () => {
    const port = await freePort();
    await ServerProcess.start({
      name: "toxiproxy",
      program: program("toxiproxy-server"),
      words: ["-host", "127.0.0.1", "-port", String(port)],
      port,
      folder: serverFolder("toxiproxy"),
      ready: async () => (await fetch(`http://127.0.0.1:${port}/version`)).ok,
    });
    return { port };
  });
}
