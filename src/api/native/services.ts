/** Our own services, by name. Their contracts, and what does their work, are loaded when they are called first. */
import type { PubSubServiceOptions } from "../../blocks/pubsub/service.ts";
import type { Sidecar } from "../../blocks/runtime/sidecar-view.ts";
import type { StateServiceOptions } from "../../blocks/state/service.ts";
import { type LateMount, mount } from "../../server/mount.ts";

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
      load: async () => {
        const [{ StateService }, { stateService }] = await Promise.all([
          import("../../../gen/outrider/state/v1/state_pb.ts"),
          import("../../blocks/state/service.ts"),
        ]);
        return mount(StateService, stateService(state));
      },
    },
    {
      typeName: nativeTypeNames.pubsub,
      methodNames: ["Publish", "PublishBatch", "PublishStream", "Subscribe"],
      load: async () => {
        const [{ PubSubService }, { pubSubCodecs, pubSubService }] = await Promise.all([
          import("../../../gen/outrider/pubsub/v1/pubsub_pb.ts"),
          import("../../blocks/pubsub/service.ts"),
        ]);
        return mount(PubSubService, pubSubService(pubsub), { codecs: pubSubCodecs });
      },
    },
    {
      typeName: nativeTypeNames.runtime,
      methodNames: ["GetMetadata", "CheckHealth", "Shutdown"],
      load: async () => {
        const [{ RuntimeService }, { runtimeService }] = await Promise.all([
          import("../../../gen/outrider/runtime/v1/runtime_pb.ts"),
          import("../../blocks/runtime/service.ts"),
        ]);
        return mount(RuntimeService, runtimeService(sidecar));
      },
    },
  ];
}
