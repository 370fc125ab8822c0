/** grpc.health.v1: what probes and load balancers ask. Loaded when it is asked first. */
import { type LateMount, type Mount, serviceName } from "./mount.ts";
import type { ReadinessSource } from "./readiness.ts";

/** The service's full name. */
export const healthTypeName = "grpc.health.v1.Health";

/**
 * The health service, which answers without a token. The empty name is the sidecar as a whole; every
 * mounted service shares its readiness, and "liveness" is served by whoever answers.
 */
export function healthMount(readiness: ReadinessSource, mounts: readonly (Mount | LateMount)[]): LateMount {
  const names = new Set(["", ...mounts.map(serviceName)]);
  return {
    typeName: healthTypeName,
    methodNames: ["Check", "List", "Watch"],
    load: async () => {
      const { healthServiceMount } = await import("./health-service.ts");
      return healthServiceMount(readiness, names);
    },
  };
}
