import { describe, expect, it } from "vitest";
import { stateSettings } from "../../../src/blocks/state/settings.ts";

const mistakesOf = (metadata: Record<string, string>) =>
  (stateSettings.safeParse(metadata).error?.issues ?? []).map(
    ({ path, message }) => `${path.join(".")}: ${message}`,
  );

describe("settings of a state component", () => {
  it("need nothing", () => {
    expect(stateSettings.parse({})).toEqual({ keyPrefix: "appid" });
  });

  it("take what Dapr's files have", () => {
    const metadata = {
      keyPrefix: "name",
      ttlInSeconds: "60",
      actorStateStore: "true",
      outboxDiscardWhenMissingState: "false",
      primaryEncryptionKey: "",
    };
    expect(stateSettings.parse(metadata)).toMatchObject({
      keyPrefix: "name",
      ttlInSeconds: 60,
      actorStateStore: true,
    });
  });

  it.each(["-1", "0", "1", "315576000"])("take a time to live of %s seconds", (ttlInSeconds) => {
    expect(stateSettings.parse({ ttlInSeconds }).ttlInSeconds).toBe(Number(ttlInSeconds));
  });

  it.each(["-2", "315576001", "1.5", "soon"])("refuse a time to live of %s seconds", (ttlInSeconds) => {
    expect(mistakesOf({ ttlInSeconds })).toHaveLength(1);
  });

  it.each(["a||b", "a\nb", "x".repeat(1025)])("refuse a key prefix that no key can have: %j", (keyPrefix) => {
    expect(mistakesOf({ keyPrefix })).toHaveLength(1);
  });

  it("take keys of AES that have names, and nothing else for a key", () => {
    const key = "00112233445566778899aabbccddeeff";
    const named = { primaryEncryptionKey: key, primaryEncryptionKeyName: "secret" };
    expect(stateSettings.parse(named).primaryEncryptionKey).toEqual(Buffer.from(key, "hex"));
    expect(mistakesOf({ ...named, primaryEncryptionKey: "0011" })).toEqual([
      expect.stringMatching(/primaryEncryptionKey: expected a key of 32, 48 or 64 hexadecimal digits/),
    ]);
    expect(mistakesOf({ primaryEncryptionKey: key })).toEqual([expect.stringContaining("secretKeyRef")]);
    const second = { secondaryEncryptionKey: key, secondaryEncryptionKeyName: "old" };
    expect(mistakesOf(second)).toEqual([expect.stringContaining("needs primaryEncryptionKey")]);
  });
});
