/** Readers and writers of the messages that a busy sidecar has most of, by method. */
import type { Message } from "@bufbuild/protobuf";
import type { SubscribeTopicEventsResponseAlpha1 } from "../../../gen/dapr/proto/runtime/v1/pubsub_pb.ts";
import type { GetStateResponse } from "../../../gen/dapr/proto/runtime/v1/state_pb.ts";
import { decodeSubscribeRequest, encodeSubscribeResponse } from "./topic-event-codec.ts";
import {
  decodeGetStateRequest,
  decodePublishEventRequest,
  decodeSaveStateRequest,
  encodeGetStateResponse,
} from "./unary-codec.ts";

const noBytes = Buffer.alloc(0);

/** See the head of this file. */
export const daprCodecs = {
  getState: {
    decode: decodeGetStateRequest,
    encode: (message: Message) => encodeGetStateResponse(message as GetStateResponse),
  },
  // Their answers are empty.
  saveState: { decode: decodeSaveStateRequest, encode: () => noBytes },
  publishEvent: { decode: decodePublishEventRequest, encode: () => noBytes },
  subscribeTopicEventsAlpha1: {
    decode: decodeSubscribeRequest,
    encode: (message: Message) => encodeSubscribeResponse(message as SubscribeTopicEventsResponseAlpha1),
  },
};
