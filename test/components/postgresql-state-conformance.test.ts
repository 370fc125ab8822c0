import { beforeAll } from "vitest";
import { stateConformance } from "../conformance/state.ts";
import { describeWith } from "../servers/require.ts";
import { Schema } from "./postgresql-schema.ts";

for (const version of ["v1", "v2"] as const) {
  describeWith("postgresql", `state.postgresql ${version}`, () => {
    let schema: Schema;
    beforeAll(async () => {
      schema = await Schema.make();
    });
    stateConformance(() => schema.state(version));
  });
}
