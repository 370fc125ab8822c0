/** The publish/subscribe service, mounted. */
import { PubSubService } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { type PubSubServiceOptions, pubSubCodecs, pubSubService } from "../../blocks/pubsub/service.ts";
import { type Mount, mount } from "../../server/mount.ts";

/** See the head of this file. */
export function pubSubMount(options: PubSubServiceOptions): Mount {
  return mount(PubSubService, pubSubService(options), { codecs: pubSubCodecs });
}
