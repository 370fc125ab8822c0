import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { pubSubConformance } from "../conformance/pubsub.ts";
import { stateConformance } from "../conformance/state.ts";
import { certificates } from "../servers/certificates.ts";
import { sharedRedis, sharedSecureRedis, startSecureRedis } from "../servers/redis.ts";
import { sharedRedisCluster } from "../servers/redis-cluster.ts";
import { describeWith } from "../servers/require.ts";
import { openPubSub, openState, type Place } from "./redis-drivers.ts";
import { withPrefix } from "./redis-keys.ts";

/** The port with TLS, and the fields that get a client in. */
const secure = async (): Promise<{ at: Place; fields: Record<string, string> }> => {
  const { host, tlsPort } = await sharedSecureRedis();
  const { ca, client } = await certificates();
  const fields = {
    enableTLS: "true",
    caCert: await readFile(ca, "utf8"),
    clientCert: client.cert,
    clientKey: client.key,
    redisPassword: "secret",
  };
  return { at: { host, port: tlsPort }, fields };
};

describeWith(["redis", "openssl"], "state.redis over TLS, as a user with few rights", () => {
  stateConformance(async () => {
    const { at, fields } = await secure();
    return withPrefix(await openState(at, { ...fields, redisUsername: "alice" }), "app:");
  });
});

describeWith(["redis", "openssl"], "pubsub.redis over TLS, with a password", () => {
  const open = async () => {
    const { at, fields } = await secure();
    return openPubSub(at, fields);
  };
  pubSubConformance(open, { second: open });
});

describeWith(["redis", "openssl"], "opening what cannot be opened", () => {
  describe("says what is wrong, and no secret", () => {
    it.each<[string, (fields: Record<string, string>) => Promise<Record<string, string>>, RegExp]>([
      [
        "a wrong password",
        async (all) => ({ ...all, redisPassword: "hush-hush" }),
        /does not accept the user or the password/,
      ],
      [
        "an unknown user",
        async (all) => ({ ...all, redisUsername: "nobody" }),
        /does not accept the user or the password/,
      ],
      ["no password", async ({ redisPassword: _, ...rest }) => rest, /wants a password/],
      [
        "an unknown authority",
        async (all) => ({ ...all, caCert: (await certificates()).foreignCa }),
        /certificate .* is not trusted/,
      ],
      [
        "a certificate of its own that has expired",
        async (all) => {
          const { expired } = await certificates();
          return { ...all, clientCert: expired.cert, clientKey: expired.key };
        },
        /certificate .* expired/,
      ],
      [
        "a certificate that is no file",
        async (all) => ({ ...all, caCert: "/no/such/file" }),
        /caCert is neither PEM nor a file/,
      ],
      [
        "no TLS where TLS is spoken",
        async ({ enableTLS: _, ...rest }) => rest,
        /cannot reach|does not speak|TLS/,
      ],
    ])("%s", async (_name, change, expected) => {
      const { at, fields } = await secure();
      const error = await failureOf(openState(at, await change(fields)));
      expect(error.message).toMatch(expected);
      expect(error.message).not.toMatch(/hush-hush|secret/);
    });

    it("a server whose certificate has expired", async () => {
      const { ca, expired } = await certificates();
      await using server = await startSecureRedis({
        "tls-cert-file": expired.cert,
        "tls-key-file": expired.key,
      });
      const at = { host: server.host, port: server.tlsPort };
      const fields = { enableTLS: "true", caCert: ca, redisPassword: "secret" };
      const error = await failureOf(openState(at, fields));
      expect(error.message).toMatch(/the certificate of Redis at .* is not trusted: certificate has expired/);
    });

    it("TLS where none is spoken", async () => {
      const at = await sharedRedis();
      expect((await failureOf(openState(at, { enableTLS: "true" }))).message).toMatch(/TLS/);
    });

    it("a port that speaks something else", async () => {
      const { createServer } = await import("node:http");
      const server = createServer((_, response) => response.end("hello")).listen(0, "127.0.0.1");
      await new Promise((resolve) => server.once("listening", resolve));
      const { port } = server.address() as { port: number };
      const error = await failureOf(openState({ host: "127.0.0.1", port }));
      server.close();
      expect(error.message).toMatch(/does not speak the protocol of Redis/);
    });

    it("a port where nobody listens", async () => {
      const error = await failureOf(openState({ host: "127.0.0.1", port: 1 }));
      expect(error.message).toMatch(/cannot reach Redis at 127.0.0.1:1: .*ECONNREFUSED/);
    });

    it("a database that there is not", async () => {
      const error = await failureOf(openState(await sharedRedis(), { redisDB: "9999" }));
      expect(error.message).toMatch(/no database of that number/);
    });

    it("a single server that is said to be a cluster", async () => {
      const error = await failureOf(openState(await sharedRedis(), { redisType: "cluster" }));
      expect(error.message).toMatch(/not a cluster/);
    });

    it("a cluster that is said to be a single server", async () => {
      const [node] = (await sharedRedisCluster()).nodes;
      const error = await failureOf(openState(node!));
      expect(error.message).toMatch(/is a node of a cluster: redisType must be "cluster"/);
    });
  });
});

async function failureOf(opening: Promise<{ close(): Promise<void> }>): Promise<Error> {
  try {
    await (await opening).close();
  } catch (error) {
    return error as Error;
  }
  throw new Error("it was opened");
}
