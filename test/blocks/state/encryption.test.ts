import { createCipheriv, randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { Connection } from "../../../src/blocks/connection.ts";
import type { StateDriver } from "../../../src/blocks/state/driver.ts";
import { type EncryptionKey, encryptedConnection } from "../../../src/blocks/state/encryption.ts";
import { memoryState } from "../../../src/components/memory/state.ts";
import { openContext } from "../../components/open-context.ts";
import { stateConformance } from "../../conformance/state.ts";

const open = () => memoryState.configure(memoryState.schema.parse({}))(openContext());
const call = { signal: new AbortController().signal };

function connectionTo(driver: StateDriver): Connection<StateDriver> {
  return { component: "c", type: "state.t", current: () => driver, ready: async () => driver };
}

const newKey = (name: string, bytes = 32): EncryptionKey => ({ name, bytes: randomBytes(bytes) });

async function set(driver: StateDriver, key: string, value: string | Uint8Array): Promise<void> {
  const options = { contentType: "", metadata: {}, expiresAtMs: undefined };
  await driver.write(
    [{ kind: "set", key, value: Buffer.from(value), precondition: undefined, ...options }],
    call,
  );
}

async function textAt(driver: StateDriver, key: string): Promise<string> {
  const [item] = await driver.get([key], call);
  return Buffer.from(item!.value!).toString();
}

// An encrypted store is a store.
stateConformance(async () => encryptedConnection(connectionTo(await open()), [newKey("k")]).current());

describe("an encrypted store", () => {
  it.each([16, 24, 32])("keeps nothing readable but the key's name, with keys of %i bytes", async (bytes) => {
    const driver = await open();
    const encrypted = encryptedConnection(connectionTo(driver), [newKey("mykey", bytes)]).current();
    await set(encrypted, "a", "hello");
    expect(await textAt(encrypted, "a")).toBe("hello");
    expect(await textAt(driver, "a")).toMatch(/^[A-Za-z0-9+/]+=*\|\|mykey$/);
    expect(await textAt(driver, "a")).not.toContain(Buffer.from("hello").toString("base64"));
  });

  it("reads what Dapr has written", async () => {
    const driver = await open();
    const key = newKey("mykey", 16);
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-128-gcm", key.bytes, nonce);
    const sealed = Buffer.concat([nonce, cipher.update("from dapr"), cipher.final(), cipher.getAuthTag()]);
    await set(driver, "a", `${sealed.toString("base64")}||mykey`);
    expect(await textAt(encryptedConnection(connectionTo(driver), [key]).current(), "a")).toBe("from dapr");
  });

  it("reads with an older key, and writes with the newer one", async () => {
    const driver = await open();
    const [older, newer] = [newKey("older"), newKey("newer")];
    await set(encryptedConnection(connectionTo(driver), [older]).current(), "a", "1");
    const both = encryptedConnection(connectionTo(driver), [newer, older]).current();
    expect(await textAt(both, "a")).toBe("1");
    await set(both, "a", "2");
    expect(await textAt(driver, "a")).toMatch(/\|\|newer$/);
  });

  it("says so when a value was changed, or is of another key, or of none", async () => {
    const driver = await open();
    const encrypted = encryptedConnection(connectionTo(driver), [newKey("k")]).current();
    await set(encrypted, "a", "hello");
    const stored = await textAt(driver, "a");
    for (const wrong of ["plain", "AAAA||k", "AAAA||other", stored.replace(/^..../, "AAAA")]) {
      await set(driver, "a", wrong);
      await expect(encrypted.get(["a"], call)).rejects.toThrow(/value is|does not name/);
    }
  });
});
