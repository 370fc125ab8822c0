import { beforeAll } from "vitest";
import { pubSubConformance } from "../conformance/pubsub.ts";
import { describeWith } from "../servers/require.ts";
import { Schema } from "./postgresql-schema.ts";

describeWith("postgresql", "pubsub.postgresql", () => {
  let schema: Schema;
  beforeAll(async () => {
    schema = await Schema.make();
  });
  pubSubConformance(() => schema.pubsub(), { second: () => schema.pubsub() });
});
