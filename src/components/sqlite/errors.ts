/** Errors of the embedded store, and how they cross from its thread to the drivers. */
import type { ErrorClass } from "../../blocks/call.ts";
import { OrderConflict, UnknownPosition } from "../../blocks/pubsub/driver.ts";
import { EtagMismatch, PositionExpired, ValueChanged } from "../../blocks/state/driver.ts";

/** What the store throws when it cannot, or will not, do what it was asked. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly errorClass: ErrorClass | undefined;

  constructor(errorClass: ErrorClass | undefined, message: string, options?: ErrorOptions) {
    super(message, options);
    this.errorClass = errorClass;
  }
}

/** An error as a message between threads: classes do not survive the way. */
export interface Failure {
  readonly kind: "store" | "etag" | "expired" | "changed" | "position" | "order";
  readonly errorClass: ErrorClass | undefined;
  /** For people; the key with kind "etag". */
  readonly text: string;
}

/** Makes a message of an error. */
export function toFailure(error: unknown): Failure {
  if (error instanceof EtagMismatch) return { kind: "etag", errorClass: undefined, text: error.key };
  if (error instanceof PositionExpired)
    return { kind: "expired", errorClass: undefined, text: error.message };
  if (error instanceof ValueChanged) return { kind: "changed", errorClass: undefined, text: error.message };
  if (error instanceof UnknownPosition)
    return { kind: "position", errorClass: undefined, text: error.message };
  if (error instanceof OrderConflict) return { kind: "order", errorClass: undefined, text: error.message };
  const known = asStoreError(error);
  return { kind: "store", errorClass: known.errorClass, text: known.message };
}

/** Makes an error of a message. */
export function fromFailure({ kind, errorClass, text }: Failure): Error {
  switch (kind) {
    case "etag":
      return new EtagMismatch(text);
    case "expired":
      return new PositionExpired(text);
    case "changed":
      return new ValueChanged(text);
    case "position":
      return new UnknownPosition(text);
    case "order":
      return new OrderConflict(text);
    case "store":
      return new StoreError(errorClass, text);
  }
}

/** Classifies what a driver of this store threw. */
export function classify(error: unknown): ErrorClass | undefined {
  if (error instanceof StoreError) return error.errorClass;
  if (error instanceof Error && /^(Abort|Timeout)Error$/.test(error.name)) return "cancelled";
  return undefined;
}

/** Whether somebody else holds the lock that a statement needs. */
export function isBusy(error: unknown): boolean {
  const code = primaryCode(error);
  return code === 5 || code === 6 || code === 15;
}

/** Primary result codes of SQLite (https://sqlite.org/rescode.html) that users can do something about. */
const sqliteCodes: Record<number, readonly [ErrorClass, string]> = {
  5: ["unavailable", "the embedded store is locked by another process"],
  6: ["unavailable", "the embedded store is locked by another process"],
  8: ["refused", "the embedded store's file or directory cannot be written to"],
  10: ["unavailable", "the disk under the embedded store reports an error"],
  11: ["refused", "the embedded store's file is damaged"],
  13: ["unavailable", "the disk under the embedded store is full"],
  14: ["unavailable", "the embedded store's file cannot be opened"],
  15: ["unavailable", "the embedded store is locked by another process"],
  18: ["refused", "a value is too large for the embedded store"],
  26: ["refused", "the embedded store's file is not an SQLite database"],
};

/** The same error when it is known already, else what SQLite or the operating system say, classified. */
export function asStoreError(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  const reason = error instanceof Error ? error.message : String(error);
  const known = sqliteCodes[primaryCode(error) ?? -1];
  if (known) return new StoreError(known[0], `${known[1]} (${reason})`, { cause: error });
  if (isSystemError(error)) {
    const refused = ["EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST"].includes(error.code);
    const text = `the directory of the embedded store cannot be used (${reason})`;
    return new StoreError(refused ? "refused" : "unavailable", text, { cause: error });
  }
  return new StoreError(undefined, reason, { cause: error });
}

function primaryCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error) || typeof error.errcode !== "number")
    return undefined;
  return error.errcode & 0xff;
}

function isSystemError(error: unknown): error is Error & { readonly code: string } {
  return error instanceof Error && "syscall" in error && "code" in error && typeof error.code === "string";
}
