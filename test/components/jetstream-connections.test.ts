import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { expect, it } from "vitest";
import type { PubSubDriver } from "../../src/blocks/pubsub/driver.ts";
import { classify } from "../../src/components/jetstream/errors.ts";
import { outgoing } from "../conformance/pubsub/fixture.ts";
import { certificates } from "../servers/certificates.ts";
import { sharedNats, sharedSecureNats, startNats } from "../servers/nats.ts";
import { describeWith } from "../servers/require.ts";
import { openPubSub, openState } from "./jetstream-server.ts";

const call = () => ({ signal: AbortSignal.timeout(15_000) });

/** What opening says, and of what class it is. */
async function refusal(metadata: Record<string, string>): Promise<readonly [string, string | undefined]> {
  const error: unknown = await openPubSub(metadata).then(
    (driver) => driver.close(),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Error)) throw new Error("it opened");
  expect(error.message).not.toMatch(/secret|wrong-word/);
  return [error.message, classify(error)];
}

async function publishes(driver: PubSubDriver): Promise<void> {
  const results = await driver.publish(`topic-${process.pid}-${Date.now()}`, [outgoing("event")], call());
  expect(results[0]).not.toBeInstanceOf(Error);
  await driver.close();
}

describeWith(["nats", "openssl"], "connecting to NATS", () => {
  it("says that nobody listens, and that it may be tried again", async () => {
    const [message, errorClass] = await refusal({ natsURL: "nats://127.0.0.1:1" });
    expect(message).toBe("the NATS server at 127.0.0.1:1: nobody listens there");
    expect(errorClass).toBe("unavailable");
  });

  it("says that what answers is no NATS server", async () => {
    const other = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { port: number };
    const [message] = await refusal({ natsURL: `nats://127.0.0.1:${port}` });
    other.close();
    expect(message).toMatch(/what answers there is no NATS server/);
  });

  it("says that JetStream is not enabled", async () => {
    await using server = await startNats("accounts { A { users: [{user: a, password: a}] } }");
    const [message, errorClass] = await refusal({ natsURL: `nats://a:a@127.0.0.1:${server.port}` });
    expect(message).toMatch(/JetStream is not enabled/);
    expect(errorClass).toBe("refused");
  });

  it("goes over TLS with a user in the URL, and with a token", async () => {
    const { port, tokenPort } = await sharedSecureNats();
    const { ca: tls_ca_cert } = await certificates();
    await publishes(await openPubSub({ natsURL: `tls://alice:secret@localhost:${port}`, tls_ca_cert }));
    const inline = readFileSync(tls_ca_cert, "utf8");
    await publishes(
      await openPubSub({
        natsURL: `tls://localhost:${tokenPort}`,
        token: "token-secret",
        tls_ca_cert: inline,
      }),
    );
  });

  it("takes a client's certificate from files and as PEM", async () => {
    const { ca: tls_ca_cert, server, client } = await certificates();
    await using nats = await startNats(
      `tls { cert_file: "${server.cert}", key_file: "${server.key}", ca_file: "${tls_ca_cert}", verify: true }`,
    );
    const natsURL = `tls://localhost:${nats.port}`;
    const files = { tls_client_cert: client.cert, tls_client_key: client.key };
    await publishes(await openPubSub({ natsURL, tls_ca_cert, ...files }));
    const tls_client_cert = readFileSync(client.cert, "utf8");
    const tls_client_key = readFileSync(client.key, "utf8");
    await publishes(await openPubSub({ natsURL, tls_ca_cert, tls_client_cert, tls_client_key }));
    await expect(openPubSub({ natsURL, tls_ca_cert })).rejects.toThrow();
  });

  it("says that the credentials are refused, without them", async () => {
    const { port, tokenPort } = await sharedSecureNats();
    const { ca: tls_ca_cert } = await certificates();
    const wrong: Record<string, string>[] = [
      { natsURL: `tls://alice:wrong-word@localhost:${port}` },
      { natsURL: `tls://localhost:${port}` },
      { natsURL: `tls://localhost:${tokenPort}`, token: "wrong-word" },
    ];
    for (const metadata of wrong) {
      const [message, errorClass] = await refusal({ ...metadata, tls_ca_cert });
      expect(message).toMatch(/it refuses the credentials/);
      expect(errorClass).toBe("refused");
    }
  });

  it("says that the user may not use JetStream", async () => {
    const { port } = await sharedSecureNats();
    const { ca: tls_ca_cert } = await certificates();
    const [message] = await refusal({ natsURL: `tls://bob:secret@localhost:${port}`, tls_ca_cert });
    expect(message).toMatch(/the user may not use JetStream/);
  }, 20_000);

  it("says to which topic the user may not publish, and to others goes on", async () => {
    await using server = await startNats(
      `authorization { users: [ { user: a, password: a, permissions: { publish: ["$JS.>", "fine.>"], subscribe: ">" } } ] }`,
    );
    const driver = await openPubSub({ natsURL: `nats://a:a@127.0.0.1:${server.port}` });
    const [fine] = await driver.publish("fine.topic", [outgoing("event")], call());
    expect(fine).not.toBeInstanceOf(Error);
    const [result] = await driver.publish("other", [outgoing("event")], call());
    expect((result as Error).message).toBe('the user may not publish to the subject "other"');
    expect(driver.classify(result)).toBe("refused");
    await driver.close();
  });

  it("says that the server's certificate is not trusted", async () => {
    const { port } = await sharedSecureNats();
    const [message, errorClass] = await refusal({ natsURL: `tls://alice:secret@localhost:${port}` });
    expect(message).toMatch(/an authority that is not trusted here; tls_ca_cert names it/);
    expect(errorClass).toBe("refused");
  });

  it("says that the server does not speak TLS", async () => {
    const { port } = await sharedNats();
    const [message] = await refusal({ natsURL: `tls://localhost:${port}` });
    expect(message).toMatch(/it does not speak TLS/);
  });

  it("names a file that cannot be read by its field", async () => {
    const { port } = await sharedNats();
    const [message] = await refusal({ natsURL: `nats://localhost:${port}`, tls_ca_cert: "/no/such/file" });
    expect(message).toBe("the file that tls_ca_cert names cannot be read (ENOENT)");
  });

  it("refuses an event and a value that are larger than the server takes, and says how large that is", async () => {
    const { url: natsURL } = await sharedNats();
    const driver = await openPubSub({ natsURL });
    const [result] = await driver.publish("large", [outgoing("x".repeat(2_000_000))], call());
    expect((result as Error).message).toMatch(/the NATS server takes 1048576 \(max_payload\)/);
    expect(driver.classify(result)).toBe("refused");
    await driver.close();
    const store = await openState({ natsURL, bucket: "large" });
    const value = new Uint8Array(2_000_000);
    const write = {
      kind: "set",
      key: "k",
      value,
      contentType: "",
      metadata: {},
      expiresAtMs: undefined,
    } as const;
    await expect(store.write([{ ...write, precondition: undefined }], call())).rejects.toThrow(/max_payload/);
    await store.close();
  });

  it("refuses a topic without a stream when it may make none", async () => {
    const { url: natsURL } = await sharedNats();
    const driver = await openPubSub({ natsURL, createStreams: "false" });
    const error: unknown = await driver
      .publish(`nowhere-${Date.now()}`, [outgoing("event")], call())
      .catch((thrown: unknown) => thrown);
    expect((error as Error).message).toMatch(/no stream takes the subject "nowhere-/);
    expect(driver.classify(error)).toBe("refused");
    await driver.close();
  });
});
