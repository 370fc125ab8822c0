/**
 * Writes the frames of deliveries, and acknowledgements: most of what a busy sidecar writes.
 *
 * protobuf-es walks descriptors, field by field; this knows the one message. It
 * writes from the end to the beginning, so that the length of a nested message is known when
 * it is due. The bytes are those that protobuf-es writes, up to the order of map entries.
 * (https://protobuf.dev/programming-guides/encoding/)
 */
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type {
  Delivery,
  Event,
  PublishStreamResponse,
  SubscribeResponse,
} from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";

/** What a delivery has beside its data, in bytes, roughly: the first guess of a frame's size. */
const guessedBytes = 384;
/** More than an acknowledgement has. */
const acknowledgementBytes = 16;
/** Up to this length a loop over characters beats a call into native code. */
const shortString = 48;

const varint = 0;
const lengthDelimited = 2;
const tag = (field: number, wireType: number) => (field << 3) | wireType;

/** The bytes of a frame of deliveries; undefined for any other message. */
export function encodeDeliver({ message }: SubscribeResponse): Uint8Array | undefined {
  if (message.case !== "deliver") return undefined;
  const { deliveries } = message.value;
  let guess = 64;
  for (const { event } of deliveries) guess += guessedBytes + event!.data.length;
  const writer = new ReverseWriter(guess);
  for (let i = deliveries.length - 1; i >= 0; i--) {
    const end = writer.left;
    writeDelivery(writer, deliveries[i]!);
    writer.nested(tag(1, lengthDelimited), end);
  }
  writer.nested(tag(2, lengthDelimited), guess);
  return writer.bytes();
}

/** The bytes of an acknowledgement that says nothing but how far it reaches; undefined for any other. */
export function encodeAcknowledgement(response: PublishStreamResponse): Uint8Array | undefined {
  if (response.failures.length > 0 || response.published.length > 0) return undefined;
  const writer = new ReverseWriter(acknowledgementBytes);
  writer.uint(tag(1, varint), Number(response.settledThrough));
  return writer.bytes();
}

function writeDelivery(writer: ReverseWriter, delivery: Delivery): void {
  if (delivery.offset !== undefined) writer.bigint(tag(13, varint), delivery.offset);
  if (delivery.partition !== undefined) writer.bigint(tag(12, varint), BigInt(delivery.partition));
  writer.map(tag(11, lengthDelimited), delivery.headers);
  writer.timestamp(tag(10, lengthDelimited), delivery.publishedAt);
  writer.text(tag(9, lengthDelimited), delivery.position);
  writer.text(tag(8, lengthDelimited), delivery.key);
  writer.timestamp(tag(7, lengthDelimited), delivery.deadline);
  writer.uint(tag(6, varint), delivery.attempt);
  writer.text(tag(5, lengthDelimited), delivery.route);
  writer.text(tag(4, lengthDelimited), delivery.topic);
  const end = writer.left;
  writeEvent(writer, delivery.event!);
  writer.nested(tag(3, lengthDelimited), end);
  writer.uint(tag(2, varint), delivery.subscription);
  writer.uint(tag(1, varint), Number(delivery.id));
}

function writeEvent(writer: ReverseWriter, event: Event): void {
  writer.map(tag(9, lengthDelimited), event.extensions);
  writer.data(tag(8, lengthDelimited), event.data);
  writer.text(tag(7, lengthDelimited), event.dataSchema);
  writer.text(tag(6, lengthDelimited), event.dataContentType);
  writer.timestamp(tag(5, lengthDelimited), event.time);
  writer.text(tag(4, lengthDelimited), event.subject);
  writer.text(tag(3, lengthDelimited), event.type);
  writer.text(tag(2, lengthDelimited), event.source);
  writer.text(tag(1, lengthDelimited), event.id);
}

/** A buffer that is filled from its end. Fields with the default value are left out, as proto3 has it. */
class ReverseWriter {
  #buffer: Buffer;
  #position: number;
  /** What growing has added in front: `left` must not jump by it. */
  #added = 0;

  constructor(bytes: number) {
    this.#buffer = Buffer.allocUnsafe(bytes);
    this.#position = bytes;
  }

  /** A mark: what has been written since is `mark - left` bytes long. */
  get left(): number {
    return this.#position - this.#added;
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(this.#position);
  }

  /** Makes what was written since the mark a nested message. */
  nested(fieldTag: number, mark: number): void {
    this.#length(mark - this.left);
    this.#byte(fieldTag);
  }

  uint(fieldTag: number, value: number): void {
    if (value === 0) return;
    this.#length(value);
    this.#byte(fieldTag);
  }

  /** An int64, or an int32, which has the same bytes; written also when it is 0. */
  bigint(fieldTag: number, value: bigint): void {
    let rest = BigInt.asUintN(64, value);
    const groups: number[] = [];
    do {
      groups.push(Number(rest & 0x7fn));
      rest >>= 7n;
    } while (rest > 0n);
    this.#reserve(groups.length);
    for (let i = groups.length - 1; i >= 0; i--) {
      this.#buffer[--this.#position] = i === groups.length - 1 ? groups[i]! : groups[i]! | 0x80;
    }
    this.#byte(fieldTag);
  }

  text(fieldTag: number, text: string): void {
    if (text !== "") this.#string(fieldTag, text);
  }

  data(fieldTag: number, data: Uint8Array): void {
    if (data.length === 0) return;
    this.#reserve(data.length);
    this.#position -= data.length;
    this.#buffer.set(data, this.#position);
    this.#length(data.length);
    this.#byte(fieldTag);
  }

  timestamp(fieldTag: number, timestamp: Timestamp | undefined): void {
    if (!timestamp) return;
    const mark = this.left;
    this.uint(tag(2, varint), timestamp.nanos);
    const seconds = Number(timestamp.seconds);
    if (seconds > 0) this.uint(tag(1, varint), seconds);
    else if (seconds < 0) this.bigint(tag(1, varint), timestamp.seconds);
    this.nested(fieldTag, mark);
  }

  map(fieldTag: number, entries: Readonly<Record<string, string>>): void {
    for (const key in entries) {
      const mark = this.left;
      this.#string(tag(2, lengthDelimited), entries[key]!);
      this.#string(tag(1, lengthDelimited), key);
      this.nested(fieldTag, mark);
    }
  }

  #string(fieldTag: number, text: string): void {
    const { length } = text;
    this.#reserve(length);
    let bytes = length;
    if (length > shortString || !this.#ascii(text)) {
      bytes = Buffer.byteLength(text);
      this.#reserve(bytes);
      this.#position -= bytes;
      this.#buffer.write(text, this.#position, bytes);
    }
    this.#length(bytes);
    this.#byte(fieldTag);
  }

  /** Writes a text if all of it is ASCII; nothing otherwise. */
  #ascii(text: string): boolean {
    const buffer = this.#buffer;
    const start = this.#position - text.length;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) return false;
      buffer[start + i] = code;
    }
    this.#position = start;
    return true;
  }

  /** A varint of 0 to 2^53 - 1. */
  #length(value: number): void {
    this.#reserve(8);
    if (value < 0x80) {
      this.#buffer[--this.#position] = value;
    } else if (value < 0x4000) {
      this.#buffer[--this.#position] = value >> 7;
      this.#buffer[--this.#position] = (value & 0x7f) | 0x80;
    } else {
      let size = 2;
      for (let rest = Math.floor(value / 0x4000); rest > 0; rest = Math.floor(rest / 0x80)) size += 1;
      let rest = value;
      const start = this.#position - size;
      for (let i = 0; i < size; i++) {
        this.#buffer[start + i] = i === size - 1 ? rest : (rest % 0x80) | 0x80;
        rest = Math.floor(rest / 0x80);
      }
      this.#position = start;
    }
  }

  #byte(value: number): void {
    this.#reserve(1);
    this.#buffer[--this.#position] = value;
  }

  #reserve(bytes: number): void {
    if (this.#position >= bytes) return;
    const added = Math.max(this.#buffer.length, bytes);
    const grown = Buffer.allocUnsafeSlow(this.#buffer.length + added);
    this.#buffer.copy(grown, this.#position + added, this.#position);
    this.#buffer = grown;
    this.#position += added;
    this.#added += added;
  }
}
