/** What a sidecar says of itself, as a service that is mounted. */
import { RuntimeService } from "../../../gen/outrider/runtime/v1/runtime_pb.ts";
import { runtimeService } from "../../blocks/runtime/service.ts";
import type { Sidecar } from "../../blocks/runtime/sidecar-view.ts";
import { type Mount, mount } from "../../server/mount.ts";

/** See the head of this file. */
export function runtimeMount(sidecar: Sidecar): Mount {
  return mount(RuntimeService, runtimeService(sidecar));
}
