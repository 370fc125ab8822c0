/** NATS with JetStream. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { certificates } from "./certificates.ts";
import { oncePerRun } from "./once.ts";
import { freePorts } from "./ports.ts";
import { serverFolder } from "./run-folder.ts";
import { type Server, ServerProcess } from "./server.ts";
import { program } from "./tools.ts";

/** Where a server is: no users, no TLS. */
export interface NatsAddress {
  readonly host: string;
  readonly port: number;
  /** nats://127.0.0.1:port */
  readonly url: string;
}

/**
 * Where a server is that wants TLS, with the certificates of the run, and a user: alice with password secret, who
 * may do everything; bob with password secret, who may publish and subscribe to "app.>" and nothing of JetStream; or the token "token-secret".
 */
export interface SecureNatsAddress extends NatsAddress {
  /** As `port`, of a server that takes the token instead of users. */
  readonly tokenPort: number;
}

/** The server that the tests of a run share: streams, subjects and buckets must have fresh names. */
export function sharedNats(): Promise<NatsAddress> {
  return oncePerRun("nats", async () => {
    const { host, port, url } = await startNats();
    return { host, port, url };
  });
}

/** The one with users and TLS. */
export function sharedSecureNats(): Promise<SecureNatsAddress> {
  return oncePerRun("nats-secure", async () => {
    const tls = await certificates();
    const tlsLine = `tls { cert_file: "${tls.server.cert}", key_file: "${tls.server.key}", ca_file: "${tls.ca}" }`;
    const users = `authorization { users: [
      { user: alice, password: secret },
      { user: bob, password: secret, permissions: { publish: "app.>", subscribe: ["app.>", "_INBOX.>"] } } ] }`;
    const [named, token] = await Promise.all([
      startNats(`${tlsLine}\n${users}`),
      startNats(`${tlsLine}\nauthorization { token: "token-secret" }`),
    ]);
    return { host: named.host, port: named.port, url: named.url, tokenPort: token.port };
  });
}

/** Starts one. What it has acknowledged is on its disk. `lines` join its configuration; `store` is a folder for its data. */
export async function startNats(lines = "", store?: string): Promise<Server & NatsAddress> {
  const [port, monitor] = (await freePorts(2)) as [number, number];
  const folder = serverFolder("nats");
  const path = join(folder, "nats.conf");
  const text = `
listen: "127.0.0.1:${port}"
http: "127.0.0.1:${monitor}"
jetstream { store_dir: "${store ?? `${folder}/js`}", sync_interval: always }
${lines}
`;
  await writeFile(path, text);
  const server = await ServerProcess.start({
    name: "NATS",
    program: program("nats-server"),
    words: ["-c", path],
    port,
    folder,
    ready: async () => (await fetch(`http://127.0.0.1:${monitor}/healthz?js-enabled-only=true`)).ok,
  });
  return Object.assign(server, { url: `nats://127.0.0.1:${port}` });
}
