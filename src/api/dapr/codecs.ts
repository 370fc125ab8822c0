/** Readers and writers of the messages that a busy sidecar has most of, by method. */
import type { Message } from "@bufbuild/protobuf";
import type { SubscribeTopicEventsResponseAlpha1 } from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import { decodePublishEventRequest, decodeSaveStateRequest } from "./request-decoders.ts";
import { decodeSubscribeRequest, encodeSubscribeResponse } from "./topic-event-codec.ts";

const noBytes = Buffer.alloc(0);

/** See the head of this file. */
export const daprCodecs = {
  // Their answers are empty.
  saveState: { decode: decodeSaveStateRequest, encode: () => noBytes },
  publishEvent: { decode: decodePublishEventRequest, encode: () => noBytes },
  subscribeTopicEventsAlpha1: {
    decode: decodeSubscribeRequest,
    encode: (message: Message) => encodeSubscribeResponse(message as SubscribeTopicEventsResponseAlpha1),
  },
};
