/** Bytes and messages. */
import {
  create,
  type DescMessage,
  fromBinary,
  type Message,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { fault } from "../faults.ts";
import type { MessageInit } from "./rpc.ts";

/**
 * Reads a message. Its `bytes` fields are views of what was received: who keeps one for long copies it.
 * Throws the fault INVALID_REQUEST when the bytes are not such a message.
 */
export function decode(schema: DescMessage, bytes: Uint8Array): Message {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw fault("INVALID_REQUEST", `not a ${schema.typeName}: ${why}`);
  }
}

/** Writes a message, or what a message can be made of. */
export function encode(schema: DescMessage, message: MessageInit): Buffer {
  const bytes = toBinary(schema, create(schema, message as MessageInitShape<DescMessage>));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
