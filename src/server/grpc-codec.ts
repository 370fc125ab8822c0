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
import type { MessageInit, Rpc } from "./rpc.ts";

/**
 * Reads a message. Its `bytes` fields are views of what was received: who keeps one for long copies it.
 * Throws the fault INVALID_REQUEST when the bytes are not such a message.
 */
export function decode({ method, codec }: Rpc, bytes: Uint8Array): Message {
  try {
    return codec?.decode ? codec.decode(bytes) : fromBinary(method.input, bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw fault("INVALID_REQUEST", `not a ${method.input.typeName}: ${why}`);
  }
}

/** Writes a message, or what a message can be made of. */
export function encode({ method, codec }: Rpc, message: MessageInit): Buffer {
  const whole = create(method.output, message as MessageInitShape<DescMessage>);
  const bytes = codec?.encode?.(whole) ?? toBinary(method.output, whole);
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
