/**
 * Server reflection, v1 and v1alpha: tools such as grpcurl work without the proto files. Hardly anybody asks, so it is
 * loaded by the first who does, and with it the contracts of all services.
 */
import type { LateMount, Mount } from "./mount.ts";

/** The versions differ in their package only. */
export type ReflectionVersion = "v1" | "v1alpha";

/** Both versions of the reflection service, over these mounts and over themselves. */
export function reflectionMounts(mounts: readonly (Mount | LateMount)[]): readonly LateMount[] {
  const own = (["v1", "v1alpha"] as const).map(
    (version): LateMount => ({
      typeName: `grpc.reflection.${version}.ServerReflection`,
      methodNames: ["ServerReflectionInfo"],
      load: async () => {
        const { reflectionMount } = await import("./reflection-service.ts");
        return reflectionMount(version, [...mounts, ...own]);
      },
    }),
  );
  return own;
}
