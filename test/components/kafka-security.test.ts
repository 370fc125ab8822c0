import { copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { classify } from "../../src/components/kafka/errors.ts";
import { outgoing } from "../conformance/pubsub/fixture.ts";
import { type Certificates, certificates } from "../servers/certificates.ts";
import { type KafkaAddress, sharedKafka, startKafka } from "../servers/kafka.ts";
import { describeWith } from "../servers/require.ts";
import { openKafkaDriver } from "./kafka/driver.ts";

describeWith(["kafka", "openssl"], "the way to a Kafka that wants to know who comes", () => {
  let kafka: KafkaAddress;
  let certs: Certificates;

  beforeAll(async () => {
    [kafka, certs] = await Promise.all([sharedKafka(), certificates()]);
  }, 60_000);

  /** Opens a driver and publishes with it. */
  async function use(fields: Record<string, string>): Promise<void> {
    const driver = await openKafkaDriver(0, fields, { signal: AbortSignal.timeout(8000) });
    try {
      const topic = `secure-${process.pid}-${Math.random().toString(36).slice(2)}`;
      const call = { signal: AbortSignal.timeout(8000) };
      const [result] = await driver.publish(topic, [outgoing("event")], call);
      expect(result).toMatchObject({ position: "0:0" });
    } finally {
      await driver.close();
    }
  }

  const at = (port: number) => ({ brokers: `localhost:${port}` });
  const admin = { authType: "password", saslUsername: "admin", saslPassword: "admin-secret" };
  const alice = { authType: "password", saslUsername: "alice", saslPassword: "secret" };

  describe("passwords", () => {
    it.each(["", "PLAINTEXT", "SHA-256", "SHA-512"])(
      "are taken with the mechanism %j",
      async (saslMechanism) => {
        await use({ ...at(kafka.ports.sasl), ...alice, saslMechanism, disableTls: "true" });
      },
    );

    it("are asked for by authRequired, as older files do it", async () => {
      const { authType: _, ...older } = admin;
      await use({ ...at(kafka.ports.sasl), ...older, authRequired: "true", disableTls: "true" });
    });

    it("go over TLS unless that is turned off", async () => {
      await use({ ...at(kafka.ports.saslTls), ...alice, caCert: certs.ca });
    });

    it.each(["PLAINTEXT", "SHA-256"])(
      "that are wrong are refused, and told nobody (%s)",
      async (saslMechanism) => {
        const fields = {
          ...at(kafka.ports.sasl),
          ...alice,
          saslMechanism,
          saslPassword: "hunter2hunter2",
          disableTls: "true",
        };
        const error = await use(fields).catch((thrown: unknown) => thrown);
        expect(classify(error)).toBe("refused");
        expect((error as Error).message).toMatch(/authentication failed: the broker refused the credentials/);
        expect(JSON.stringify(error) + String(error)).not.toContain("hunter2");
      },
    );
  });

  describe("certificates", () => {
    it("are checked against the CA in a file, or in the YAML itself", async () => {
      await use({ ...at(kafka.ports.tls), caCert: certs.ca });
      await use({ ...at(kafka.ports.tls), caCert: await readFile(certs.ca, "utf8") });
    });

    it("are shown to a broker that wants one", async () => {
      const { cert: clientCert, key: clientKey } = certs.client;
      await use({
        ...at(kafka.ports.mutualTls),
        authType: "certificate",
        caCert: certs.ca,
        clientCert,
        clientKey,
      });
    });

    it("of an unknown CA are refused, with what to do about it", async () => {
      await expect(use({ ...at(kafka.ports.tls), caCert: certs.foreignCa })).rejects.toThrow(
        /certificate is not signed by a known CA; set caCert/,
      );
      await use({ ...at(kafka.ports.tls), caCert: certs.foreignCa, skipVerify: "true" });
    });

    it.each(["expired", "foreignClient"] as const)(
      "of a client that is %s are refused by the broker",
      async (which) => {
        const { cert: clientCert, key: clientKey } = certs[which];
        const fields = {
          ...at(kafka.ports.mutualTls),
          authType: "certificate",
          caCert: certs.ca,
          clientCert,
          clientKey,
        };
        await expect(use(fields)).rejects.toThrow(/refused the client's certificate|closed/i);
      },
    );

    it("that were replaced are used for the next connection", async () => {
      const folder = await mkdtemp(join(tmpdir(), "outrider-kafka-"));
      onTestFinished(() => rm(folder, { recursive: true }));
      const [caCert, clientCert, clientKey] = ["ca", "cert", "key"].map((name) => join(folder, name)) as [
        string,
        string,
        string,
      ];
      await Promise.all([
        copyFile(certs.ca, caCert),
        copyFile(certs.foreignClient.cert, clientCert),
        copyFile(certs.foreignClient.key, clientKey),
      ]);
      const fields = { ...at(kafka.ports.mutualTls), authType: "certificate", caCert, clientCert, clientKey };
      await expect(use(fields)).rejects.toThrow();
      await Promise.all([copyFile(certs.client.cert, clientCert), copyFile(certs.client.key, clientKey)]);
      await use(fields);
    });

    it("that cannot be read are told by their field", async () => {
      await expect(use({ ...at(kafka.ports.tls), caCert: "/no/such/ca.pem" })).rejects.toThrow(
        "caCert is neither PEM nor a file that can be read",
      );
    });
  });

  describe("tokens", () => {
    it("come from the token endpoint, once for all connections", async () => {
      const { asked, oidc } = await tokenEndpoint(3600);
      await use({ ...at(kafka.ports.sasl), ...oidc });
      expect(asked).toHaveLength(1);
      expect(Object.fromEntries(new URLSearchParams(asked[0]))).toMatchObject({
        grant_type: "client_credentials",
        client_id: "outrider",
        scope: "kafka openid",
      });
    });

    it("are replaced before they end, on connections that are in use", { timeout: 60_000 }, async () => {
      const { asked, oidc } = await tokenEndpoint(30);
      await using strict = await startKafka({ "connections.max.reauth.ms": "3600000" });
      const driver = await openKafkaDriver(0, { ...at(strict.ports.sasl), ...oidc });
      onTestFinished(() => driver.close());
      const refused: unknown[] = [];
      const askedAfterAnEvent = async () => {
        const [result] = await driver.publish("tokens", [outgoing("event")], {
          signal: AbortSignal.timeout(8000),
        });
        if (result instanceof Error) refused.push(result);
        return asked.length;
      };
      // Ten seconds before the first ends.
      await expect.poll(askedAfterAnEvent, { timeout: 50_000, interval: 200 }).toBe(2);
      expect(refused).toEqual([]);
    });

    it("that nobody gives are told, without the secret", async () => {
      const oidc = {
        authType: "oidc",
        oidcTokenEndpoint: "http://127.0.0.1:1/token",
        oidcClientID: "outrider",
        oidcClientSecret: "client-secret",
        disableTls: "true",
      };
      const error = await use({ ...at(kafka.ports.sasl), ...oidc }).catch(
        (thrown: unknown) => thrown as Error,
      );
      expect(String(error)).toMatch(/oidcTokenEndpoint|authentication failed/);
      expect(String(error)).not.toContain("client-secret");
    });
  });

  describe("ports", () => {
    it("that speak TLS where none is meant, or none where it is, are told apart", async () => {
      await expect(use(at(kafka.ports.tls))).rejects.toThrow(/expects TLS|another protocol|closed/i);
      await expect(use({ ...at(kafka.port), caCert: certs.ca })).rejects.toThrow(
        /does not speak TLS|closed|disconnected/i,
      );
    });

    it("that speak something else are told", async () => {
      const http = createServer();
      await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", () => resolve()));
      onTestFinished(() => void http.close());
      const { port } = http.address() as AddressInfo;
      await expect(use({ brokers: `127.0.0.1:${port}` })).rejects.toThrow(/does not answer as Kafka does/);
    });

    it("that nobody listens at are unavailable", async () => {
      const error = await use({ brokers: "127.0.0.1:1" }).catch((thrown: unknown) => thrown);
      expect(classify(error)).toBe("unavailable");
    });
  });
});

/** Gives tokens that are good for so long; `asked` is what it was sent. */
async function tokenEndpoint(lifeSeconds: number) {
  const asked: string[] = [];
  const endpoint = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      asked.push(body);
      response.setHeader("content-type", "application/json");
      const token = unsignedToken("alice", lifeSeconds);
      response.end(JSON.stringify({ access_token: token, expires_in: lifeSeconds }));
    });
  });
  await new Promise<void>((resolve) => endpoint.listen(0, "127.0.0.1", () => resolve()));
  onTestFinished(() => void endpoint.close());
  const oidc = {
    authType: "oidc",
    oidcTokenEndpoint: `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}/token`,
    oidcClientID: "outrider",
    oidcClientSecret: "client-secret",
    oidcScopes: "kafka,openid",
    disableTls: "true",
  };
  return { asked, oidc };
}

function unsignedToken(subject: string, lifeSeconds: number): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  return `${part({ alg: "none" })}.${part({ sub: subject, iat: now, exp: now + lifeSeconds })}.`;
}
