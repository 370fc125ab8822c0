import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { DaprError } from "../../../src/api/dapr/errors.ts";
import { DaprSecrets } from "../../../src/api/dapr/secrets.ts";
import { environmentStore, fileStore, type SecretScope } from "../../../src/config/secrets.ts";
import { directory } from "../../config/fixture.ts";

async function vault(scopes: readonly SecretScope[] = []): Promise<DaprSecrets> {
  const path = await directory({ "s.json": JSON.stringify({ redis: { password: "x" }, "k/1": "v" }) });
  const settings = { secretsFile: `${path}/s.json`, nestedSeparator: ":", multiValued: false };
  const store = await fileStore(settings);
  if ("problem" in store) throw new Error(store.problem);
  const environment = environmentStore("APP_", { APP_ONE: "1", DAPR_API_TOKEN: "no", OTHER: "2" });
  return new DaprSecrets(
    new Map([
      ["vault", store],
      ["env", environment],
    ]),
    () => scopes,
  );
}

function refusal(work: () => unknown): { code: Code; errorCode: string } {
  try {
    work();
  } catch (error) {
    if (error instanceof DaprError) return { code: error.code, errorCode: error.kind.errorCode };
    throw error;
  }
  throw new Error("it was not refused");
}

describe("Dapr's secrets API", () => {
  it("reads a secret, and all of a store", async () => {
    const secrets = await vault();
    expect([...secrets.get("vault", "redis:password")]).toEqual([["redis:password", "x"]]);
    expect([...secrets.getBulk("vault").keys()].sort()).toEqual(["k/1", "redis:password"]);
    expect([...secrets.getBulk("env").keys()]).toEqual(["ONE"]);
  });

  it("gives variables that are not set, or that are the runtime's own, as empty", async () => {
    const secrets = await vault();
    for (const name of ["TWO", ""]) expect([...secrets.get("env", name)]).toEqual([[name, ""]]);
    const runtime = new DaprSecrets(
      new Map([["env", environmentStore("", { DAPR_API_TOKEN: "no" })]]),
      () => [],
    );
    expect([...runtime.get("env", "DAPR_API_TOKEN")]).toEqual([["DAPR_API_TOKEN", ""]]);
  });

  it("tells no store at all from an unknown one, and from an unknown secret", async () => {
    const secrets = await vault();
    const none = new DaprSecrets(new Map(), () => []);
    expect(refusal(() => none.get("vault", "a")).errorCode).toBe("ERR_SECRET_STORES_NOT_CONFIGURED");
    expect(refusal(() => secrets.get("nope", "a")).errorCode).toBe("ERR_SECRET_STORE_NOT_FOUND");
    expect(refusal(() => secrets.get("vault", "a"))).toEqual({
      code: Code.Internal,
      errorCode: "ERR_SECRET_GET",
    });
  });

  it.each([
    [{ storeName: "vault", defaultAccess: "deny", allowedSecrets: [], deniedSecrets: [] }, []],
    [{ storeName: "vault", defaultAccess: "deny", allowedSecrets: ["k/1"], deniedSecrets: [] }, ["k/1"]],
    [{ storeName: "vault", allowedSecrets: [], deniedSecrets: ["k/1"] }, ["redis:password"]],
    [{ storeName: "vault", allowedSecrets: ["k/1"], deniedSecrets: ["k/1"] }, []],
    [
      { storeName: "other", defaultAccess: "deny", allowedSecrets: [], deniedSecrets: [] },
      ["k/1", "redis:password"],
    ],
  ] as const)("shows what the scope %j lets the application see", async (scope, seen) => {
    const secrets = await vault([scope]);
    expect([...secrets.getBulk("vault").keys()].sort()).toEqual([...seen]);
    for (const name of ["k/1", "redis:password"]) {
      if ((seen as readonly string[]).includes(name)) expect(secrets.get("vault", name).size).toBe(1);
      else expect(refusal(() => secrets.get("vault", name)).code).toBe(Code.PermissionDenied);
    }
  });
});
