/** Names in JSON, which Go reads in any letter case. Dapr's SDK for JavaScript writes `entryID`. */
import { describe, expect, it } from "vitest";
import { Daprd, inMemory, v1 } from "./daprd.ts";
import { HttpApp } from "./http-app.ts";

const store = `---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: mystore}
spec: {type: state.in-memory, version: v1}
`;
const post = async (daprd: Daprd, path: string, body: unknown) => {
  const response = await fetch(daprd.url(path), { method: "POST", body: JSON.stringify(body) });
  return { status: response.status, body: await response.text() };
};

describe("names in JSON have any letter case", () => {
  it("in requests to save, to read several, and of a transaction; names of metadata keep theirs", async () => {
    await using daprd = await Daprd.start({ resources: store });
    const item = { KEY: "a", Value: { Sum: 1 }, METADATA: { ttlInSeconds: "100" } };
    expect((await post(daprd, "/v1.0/state/mystore", [item])).status).toBe(204);
    const read = async () =>
      JSON.parse((await post(daprd, "/v1.0/state/mystore/bulk", { Keys: ["a"] })).body);
    expect(await read()).toEqual([
      {
        key: "a",
        data: { Sum: 1 },
        etag: expect.any(String),
        metadata: { ttlExpireTime: expect.any(String) },
      },
    ]);
    const stale = { Key: "a", VALUE: 2, ETag: "none", Options: { Concurrency: "first-write" } };
    expect((await post(daprd, "/v1.0/state/mystore", [stale])).status).toBe(409);
    const operations = [{ Operation: "upsert", REQUEST: { Key: "a", Value: 3 } }];
    expect((await post(daprd, "/v1.0/state/mystore/transaction", { Operations: operations })).status).toBe(
      204,
    );
    expect((await read())[0].data).toBe(3);
  });

  it("in entries of a bulk publish, and in what an application answers", async () => {
    await using app = await HttpApp.start({
      routes: {
        "/one": { status: 200, body: '{"Status":"DROP"}' },
        "/many": ({ body }) => {
          const entries = body!["entries"] as { entryId: string }[];
          const statuses = entries.map(({ entryId }) => ({ EntryID: entryId, STATUS: "DROP" }));
          return { status: 200, body: JSON.stringify({ Statuses: statuses }) };
        },
        "/dead": 200,
      },
    });
    const dead = { deadLetterTopic: "dead" };
    await using daprd = await Daprd.start({
      resources:
        inMemory() +
        v1("s1", "one", "/one", dead) +
        v1("s2", "many", "/many", { ...dead, bulkSubscribe: { enabled: true, maxAwaitDurationMs: 10 } }) +
        v1("s3", "dead", "/dead"),
      app,
    });
    for (const topic of ["one", "many"]) {
      const entries = [{ entryID: "1", Event: "x", CONTENTTYPE: "text/plain" }];
      expect(await post(daprd, `/v1.0/publish/bulk/mypub/${topic}`, entries)).toEqual({
        status: 204,
        body: "",
      });
    }
    await expect.poll(() => app.to("/dead").length, { timeout: 5000, interval: 10 }).toBe(2);
    expect(app.to("/dead").map(({ body }) => body!["data"])).toEqual(["x", "x"]);
  });
});
