/** Our own services, by name. Their contracts, and what does their work, are loaded when they are called first. */
import type { PubSubServiceOptions } from "../../blocks/pubsub/service.ts";
import type { Sidecar } from "../../blocks/runtime/sidecar-view.ts";
import type { StateServiceOptions } from "../../blocks/state/service.ts";
import type { LateMount } from "../../server/mount.ts";

/** The full names of our services. */
export const nativeTypeNames = {
  state: "outrider.state.v1.StateService",
  pubsub: "outrider.pubsub.v1.PubSubService",
  runtime: "outrider.runtime.v1.RuntimeService",
} as const;

/** What they are made of. */
export interface NativeOptions {
  readonly state: StateServiceOptions;
  readonly pubsub: PubSubServiceOptions;
  readonly sidecar: Sidecar;
}

/** A mount of each. */
export function nativeMounts({ state, pubsub, sidecar }: NativeOptions): readonly LateMount[] {
  return [
    {
      typeName: nativeTypeNames.state,
      methodNames: ["Get", "BatchGet", "Set", "Delete", "Transact", "List", "Watch", "Read", "Write"],
      load: async () => (await import("./state.ts")).stateMount(state),
    },
    {
      typeName: nativeTypeNames.pubsub,
      methodNames: ["Publish", "PublishBatch", "PublishStream", "Subscribe"],
      load: async () => (await import("./pubsub.ts")).pubSubMount(pubsub),
    },
    {
      typeName: nativeTypeNames.runtime,
      methodNames: ["GetMetadata", "CheckHealth", "Shutdown"],
      load: async () => (await import("./runtime.ts")).runtimeMount(sidecar),
    },
  ];
}
