import { describe, expect, it } from "vitest";
import { type NativeOptions, nativeMounts } from "../../../src/api/native/services.ts";
import { healthMount } from "../../../src/server/health.ts";
import { Readiness } from "../../../src/server/readiness.ts";
import { reflectionMounts } from "../../../src/server/reflection.ts";

const native = nativeMounts({ state: {}, pubsub: {}, sidecar: {} } as unknown as NativeOptions);
const all = [...native, healthMount(new Readiness(), native), ...reflectionMounts(native)];

describe("a service that is loaded with its first call", () => {
  it.each(all)("has the name and the methods of its contract: $typeName", async (late) => {
    const { service } = await late.load();
    expect(late.typeName).toBe(service.typeName);
    expect(late.methodNames.toSorted()).toEqual(service.methods.map(({ name }) => name).toSorted());
  });
});
