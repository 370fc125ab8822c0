import { afterAll, beforeAll } from "vitest";
import { pubSubConformance } from "../conformance/pubsub.ts";
import { stateConformance } from "../conformance/state.ts";
import { Directory } from "./sqlite-directory.ts";

let directory: Directory;

beforeAll(async () => {
  directory = await Directory.make();
});
afterAll(() => directory.remove());

stateConformance(() => directory.state());
pubSubConformance(() => directory.pubsub(), { second: () => directory.pubsub() });
