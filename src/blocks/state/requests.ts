/** Requests of the state service, checked: every field at fault is named, in one fault. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type {
  DeleteRequest,
  Precondition as PreconditionMessage,
  SetRequest,
  TransactWrite,
} from "../../../gen/outrider/state/v1/state_pb.ts";
import { invalidRequest, type Violation } from "../../faults.ts";
import type { Hints } from "../call.ts";
import type { Precondition } from "./driver.ts";
import { keyViolation } from "./keys.ts";

/** Keys in a batch, writes in a transaction, and items in a page, at most. */
export const maxBatchSize = 1000;
const maxMetadataEntries = 64;
/** Names and values together, in bytes of UTF-8. */
const maxMetadataBytes = 8 * 1024;
const maxContentTypeBytes = 256;
/** Ten years of 365.25 days. */
export const maxTimeToLiveMs = 10 * 365.25 * 86_400_000;

/** Fields that one fault names at most: it travels in a header, which has a limit too. */
const maxViolations = 16;

/** What to write, as an application asks for it: the key has no prefix, the time is relative. */
export type WriteInput = SetInput | DeleteInput;

export interface SetInput {
  readonly kind: "set";
  readonly key: string;
  readonly value: Uint8Array;
  readonly contentType: string;
  /** See `SetWrite`. */
  readonly isJson?: boolean | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  /** More than 0. Undefined: the store's default. */
  readonly timeToLiveMs: number | undefined;
  readonly precondition: Precondition | undefined;
  readonly hints?: Hints | undefined;
}

export interface DeleteInput {
  readonly kind: "delete";
  readonly key: string;
  readonly precondition: Precondition | undefined;
  readonly hints?: Hints | undefined;
}

/** Fields at fault, as they are found. */
export class Violations {
  readonly #found: Violation[] = [];
  #unnamed = 0;

  /** Remembers that a field is wrong when there is a reason why. */
  add(field: string, description: string | undefined): void {
    if (description === undefined) return;
    if (this.#found.length < maxViolations) this.#found.push({ field, description });
    else this.#unnamed++;
  }

  /** Throws the fault INVALID_REQUEST when any field is wrong. */
  throwIfAny(): void {
    const last = this.#found.at(-1);
    if (last === undefined) return;
    if (this.#unnamed > 0) {
      const description = `${last.description} (and ${this.#unnamed} more violations)`;
      this.#found[this.#found.length - 1] = { ...last, description };
    }
    throw invalidRequest(...this.#found);
  }
}

/** Throws the fault INVALID_REQUEST when this can be no key. */
export function checkKey(key: string): void {
  const description = keyViolation(key);
  if (description !== undefined) throw invalidRequest({ field: "key", description });
}

/** Checks the keys of a batch. Throws the fault INVALID_REQUEST. */
export function checkKeys(keys: readonly string[]): void {
  const violations = new Violations();
  violations.add("keys", sizeViolation(keys.length));
  if (keys.length <= maxBatchSize) {
    for (const [index, key] of keys.entries()) violations.add(`keys[${index}]`, keyViolation(key));
  }
  violations.throwIfAny();
}

/** What a Set asks for. Throws the fault INVALID_REQUEST. */
export function parseSet(request: SetRequest): SetInput {
  const violations = new Violations();
  const input = setInput(request, "", violations);
  violations.throwIfAny();
  return input;
}

/** What a Delete asks for. Throws the fault INVALID_REQUEST. */
export function parseDelete(request: DeleteRequest): DeleteInput {
  const violations = new Violations();
  const input = deleteInput(request, "", violations);
  violations.throwIfAny();
  return input;
}

/** What the first message of a Write asks for. Throws the fault INVALID_REQUEST. */
export function parseBegin(request: SetRequest): SetInput {
  const violations = new Violations();
  const input = setInput(request, "begin.", violations);
  if (request.value.byteLength > 0) {
    violations.add("begin.value", "must be empty: the value follows in chunks");
  }
  violations.throwIfAny();
  return input;
}

/** What a Transact asks for. Throws the fault INVALID_REQUEST. */
export function parseTransaction(writes: readonly TransactWrite[]): WriteInput[] {
  const violations = new Violations();
  violations.add("writes", sizeViolation(writes.length));
  const inputs: WriteInput[] = [];
  const indexes = new Map<string, number>();
  for (const [index, { write }] of writes.slice(0, maxBatchSize).entries()) {
    const path = `writes[${index}]`;
    if (write.case === undefined) {
      violations.add(path, "must have set or delete");
      continue;
    }
    const input =
      write.case === "set"
        ? setInput(write.value, `${path}.set.`, violations)
        : deleteInput(write.value, `${path}.delete.`, violations);
    if (write.value.component !== "") {
      violations.add(`${path}.${write.case}.component`, "must be empty: the transaction names it");
    }
    const first = indexes.get(input.key);
    if (first === undefined) indexes.set(input.key, index);
    else violations.add(`${path}.${write.case}.key`, `must not be the key of writes[${first}]`);
    inputs.push(input);
  }
  violations.throwIfAny();
  return inputs;
}

function setInput(request: SetRequest, path: string, violations: Violations): SetInput {
  const { key, value, contentType, metadata, timeToLive, precondition } = request;
  violations.add(`${path}key`, keyViolation(key));
  if (Buffer.byteLength(contentType) > maxContentTypeBytes) {
    violations.add(`${path}content_type`, `must have at most ${maxContentTypeBytes} bytes`);
  }
  violations.add(`${path}metadata`, metadataViolation(metadata));
  return {
    kind: "set",
    key,
    value,
    contentType,
    metadata,
    timeToLiveMs: timeToLive && timeToLiveOf(timeToLive, `${path}time_to_live`, violations),
    precondition: precondition && preconditionOf(precondition, `${path}precondition`, violations),
  };
}

function deleteInput(request: DeleteRequest, path: string, violations: Violations): DeleteInput {
  const { key, precondition } = request;
  violations.add(`${path}key`, keyViolation(key));
  if (precondition?.condition.case === "absent") {
    violations.add(`${path}precondition.absent`, "makes no sense in a deletion");
    return { kind: "delete", key, precondition: undefined };
  }
  return {
    kind: "delete",
    key,
    precondition: precondition && preconditionOf(precondition, `${path}precondition`, violations),
  };
}

function preconditionOf(
  { condition }: PreconditionMessage,
  path: string,
  violations: Violations,
): Precondition | undefined {
  if (condition.case === "etag") {
    if (condition.value === "") violations.add(`${path}.etag`, "must not be empty: no item has that etag");
    return { kind: "etag", etag: condition.value };
  }
  if (condition.case === "absent") {
    if (!condition.value) violations.add(`${path}.absent`, "must be true, or not there");
    return { kind: "absent" };
  }
  return undefined;
}

function timeToLiveOf({ seconds, nanos }: Duration, path: string, violations: Violations): number {
  // Rounded up, so that the shortest time is not none.
  const timeToLiveMs = Number(seconds) * 1000 + Math.ceil(nanos / 1e6);
  if (timeToLiveMs <= 0) violations.add(path, "must be more than zero");
  else if (timeToLiveMs > maxTimeToLiveMs) {
    violations.add(path, `must be at most 10 years, ${maxTimeToLiveMs / 1000} seconds`);
  }
  return timeToLiveMs;
}

function metadataViolation(metadata: Readonly<Record<string, string>>): string | undefined {
  let entries = 0;
  let bytes = 0;
  for (const name in metadata) {
    entries++;
    bytes += Buffer.byteLength(name) + Buffer.byteLength(metadata[name]!);
  }
  if (entries > maxMetadataEntries) return `must have at most ${maxMetadataEntries} entries`;
  if (bytes > maxMetadataBytes) return `must have at most ${maxMetadataBytes} bytes in all`;
  return undefined;
}

function sizeViolation(size: number): string | undefined {
  return size < 1 || size > maxBatchSize ? `must be 1 to ${maxBatchSize}` : undefined;
}
