/** Certificates in files that are replaced while a component is open. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import type { StateDriver } from "../../src/blocks/state/driver.ts";
import { setOf } from "../conformance/state/fixture.ts";
import { Authority, certificates } from "../servers/certificates.ts";
import { startNats } from "../servers/nats.ts";
import { startPostgresql } from "../servers/postgresql.ts";
import { startSecureRedis } from "../servers/redis.ts";
import { describeWith } from "../servers/require.ts";
import type { Server } from "../servers/server.ts";
import { openState as openJetStream } from "./jetstream-server.ts";
import { Schema } from "./postgresql-schema.ts";
import { openState as openRedis } from "./redis-drivers.ts";

const call = () => ({ signal: AbortSignal.timeout(20_000) });

/** Copies of a client's certificates, which can be replaced. */
class ClientFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;

  private constructor(folder: string) {
    [this.ca, this.cert, this.key] = ["ca", "cert", "key"].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
  }

  /** Those that the servers of the run believe. */
  static async make(): Promise<ClientFiles> {
    const folder = await mkdtemp(join(tmpdir(), "outrider-tls-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const files = new ClientFiles(folder);
    const { ca, client } = await certificates();
    await copyFile(ca, files.ca);
    await files.replaceClient(client);
    return files;
  }

  async replaceClient({ cert, key }: { readonly cert: string; readonly key: string }): Promise<void> {
    await Promise.all([copyFile(cert, this.cert), copyFile(key, this.key)]);
  }
}

/**
 * The server comes back and believes another authority alone, which signed its own certificate as well. A client that has the files of
 * then is not let in; with those that replace them it is, without being opened again.
 */
async function expectReplacedToBeUsed(
  store: StateDriver,
  files: ClientFiles,
  change: (ca: string, server: { readonly cert: string; readonly key: string }) => Promise<void>,
): Promise<void> {
  await store.write([setOf("key", "before")], call());
  const authority = await Authority.make("other-ca");
  const [server, client] = await Promise.all([
    authority.issue("server", "localhost"),
    authority.issue("client", "alice"),
  ]);
  await change(authority.ca, server);
  await expect(store.get(["key"], { signal: AbortSignal.timeout(3000) })).rejects.toThrow();
  await copyFile(authority.ca, files.ca);
  await files.replaceClient(client);
  const works = () =>
    store.write([setOf("key", "after")], call()).then(
      () => true,
      () => false,
    );
  await expect.poll(works, { timeout: 40_000, interval: 200 }).toBe(true);
}

/** Puts the new files in the place of those that a server was configured with, and starts it again. */
async function restartWith(server: Server, replaced: readonly (readonly [from: string, to: string])[]) {
  // Written into, so that they stay those of the user who runs the server.
  for (const [from, to] of replaced) await writeFile(to, await readFile(from));
  await server.restart();
}

describeWith(["redis", "openssl"], "certificates for Redis", () => {
  it("that are replaced are used by the next connection", async () => {
    const own = await ClientFiles.make();
    const serverFiles = await ClientFiles.make();
    await serverFiles.replaceClient((await certificates()).server);
    await using redis = await startSecureRedis({
      "tls-cert-file": serverFiles.cert,
      "tls-key-file": serverFiles.key,
      "tls-ca-cert-file": serverFiles.ca,
      "tls-auth-clients": "yes",
    });
    const store = await openRedis(`127.0.0.1:${redis.tlsPort}`, {
      enableTLS: "true",
      redisPassword: "secret",
      caCert: own.ca,
      clientCert: own.cert,
      clientKey: own.key,
    });
    try {
      await expectReplacedToBeUsed(store, own, (ca, { cert, key }) =>
        restartWith(redis, [
          [ca, serverFiles.ca],
          [cert, serverFiles.cert],
          [key, serverFiles.key],
        ]),
      );
    } finally {
      await store.close();
    }
  }, 90_000);
});

describeWith(["postgresql", "openssl"], "certificates for PostgreSQL", () => {
  it("that are replaced are used by the next connection", async () => {
    const own = await ClientFiles.make();
    await using postgresql = await startPostgresql();
    const schema = new Schema(
      `postgresql://postgres@localhost:${postgresql.port}/postgres?sslmode=verify-full&sslrootcert=${own.ca}&sslcert=${own.cert}&sslkey=${own.key}`,
    );
    const store = await schema.state("v1", { hostaddr: "127.0.0.1" });
    const at = (name: string) => join(postgresql.folder, "db", name);
    try {
      await expectReplacedToBeUsed(store, own, (ca, { cert, key }) =>
        restartWith(postgresql, [
          [ca, at("ca.crt")],
          [cert, at("server.crt")],
          [key, at("server.key")],
        ]),
      );
    } finally {
      await store.close();
    }
  }, 90_000);
});

describeWith(["nats", "openssl"], "certificates for NATS", () => {
  it("that are replaced are used by the next connection", async () => {
    const own = await ClientFiles.make();
    const serverFiles = await ClientFiles.make();
    await serverFiles.replaceClient((await certificates()).server);
    const { ca, cert, key } = serverFiles;
    await using nats = await startNats(
      `tls { cert_file: "${cert}", key_file: "${key}", ca_file: "${ca}", verify: true }`,
    );
    const store = await openJetStream({
      natsURL: nats.url.replace("nats:", "tls:"),
      tls_ca_cert: own.ca,
      tls_client_cert: own.cert,
      tls_client_key: own.key,
      bucket: "certificates",
    });
    try {
      await expectReplacedToBeUsed(store, own, (newCa, server) =>
        restartWith(nats, [
          [newCa, ca],
          [server.cert, cert],
          [server.key, key],
        ]),
      );
    } finally {
      await store.close();
    }
  }, 90_000);
});
