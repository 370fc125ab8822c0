/** What Dapr's state API is asked for, and answers, in either protocol. */
import type { Item } from "../../blocks/state/driver.ts";

/** An item to write, or to delete. */
export interface StateItemInput {
  readonly key: string;
  readonly value: Uint8Array;
  /** True over HTTP, where every value is JSON. */
  readonly isJson?: boolean;
  /** Undefined: none given. */
  readonly etag: string | undefined;
  readonly firstWrite: boolean;
  /** Why no store takes it, where its options make no sense. */
  readonly refusal?: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
}

/** An item that was read. */
export interface StateItemOutput {
  readonly key: string;
  /** Undefined: there is no such item. */
  readonly item: Item | undefined;
  /** Why it could not be read; "" otherwise. */
  readonly error: string;
}

/** One operation of a transaction. */
export interface StateOperation {
  readonly type: string;
  readonly item: StateItemInput;
  /** The value as an event has it, where that is not what is stored: JSON's text without its quotes. */
  readonly eventData?: Uint8Array;
}
