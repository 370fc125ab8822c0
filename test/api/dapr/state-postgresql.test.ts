/** What is saved over Dapr's APIs is in PostgreSQL as Dapr's own component has it there. */
import { expect, it } from "vitest";
import { Schema } from "../../components/postgresql-schema.ts";
import { describeWith } from "../../servers/require.ts";
import { component } from "./cases/yaml.ts";
import { Daprd } from "./daprd.ts";

describeWith("postgresql", "state.postgresql v1, over Dapr's APIs", () => {
  it("has JSON of what came over HTTP, and base64 of bytes that came over gRPC", async () => {
    const schema = await Schema.make();
    const fields = {
      connectionString: schema.url,
      tableName: `${schema.name}.state`,
      metadataTableName: `${schema.name}.m`,
    };
    await using daprd = await Daprd.start({
      resources: component("mystore", "state.postgresql", fields),
      appId: "shop",
    });
    const post = async (path: string, body: unknown) => {
      const response = await fetch(daprd.url(path), { method: "POST", body: JSON.stringify(body) });
      expect([response.status, await response.text()]).toEqual([204, ""]);
    };
    await post("/v1.0/state/mystore", [{ key: "saved", value: { total: 5 } }]);
    const request = { key: "transacted", value: "text" };
    await post("/v1.0/state/mystore/transaction", { operations: [{ operation: "upsert", request }] });
    const bytes = Buffer.from('{"total":5}');
    await daprd.grpc.saveState({ storeName: "mystore", states: [{ key: "bytes", value: bytes }] });
    const rows = await schema.sql("SELECT key, value, isbinary FROM state ORDER BY key");
    expect(rows).toEqual([
      { key: "shop||bytes", value: bytes.toString("base64"), isbinary: true },
      { key: "shop||saved", value: { total: 5 }, isbinary: false },
      { key: "shop||transacted", value: "text", isbinary: false },
    ]);
    const read = await fetch(daprd.url("/v1.0/state/mystore/saved"));
    expect(await read.text()).toBe('{"total":5}');
  });
});
