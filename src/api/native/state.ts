/** The state service, mounted. */
import { StateService } from "../../../gen/outrider/state/v1/state_pb.ts";
import { type StateServiceOptions, stateService } from "../../blocks/state/service.ts";
import { type Mount, mount } from "../../server/mount.ts";

/** See the head of this file. */
export function stateMount(options: StateServiceOptions): Mount {
  return mount(StateService, stateService(options));
}
