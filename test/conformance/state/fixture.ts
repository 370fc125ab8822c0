import { randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import type { Call } from "../../../src/blocks/call.ts";
import type {
  Item,
  ItemOptions,
  Precondition,
  StateDriver,
  StateSupports,
  Write,
} from "../../../src/blocks/state/driver.ts";

/** What each part of the suite needs: the driver, fresh keys, and short words for common writes. */
export class StateFixture {
  /** A call that nobody ends. */
  readonly call: Call = { signal: new AbortController().signal };
  /** Another for each run, so that runs beside each other do not meet. */
  readonly #run = `conformance/${randomUUID()}/`;
  #count = 0;
  #driver: StateDriver | undefined;

  use(driver: StateDriver): void {
    this.#driver = driver;
  }

  get driver(): StateDriver {
    if (this.#driver === undefined) throw new Error("the driver is not open");
    return this.#driver;
  }

  /** A key, or a beginning of keys, that nobody has used. */
  key(suffix = ""): string {
    this.#count++;
    return `${this.#run}${this.#count}/${suffix}`;
  }

  /** A test of what not every store can do: skipped, and why is printed, where the driver does not claim it. */
  test(needs: readonly (keyof StateSupports)[], title: string, test: () => Promise<void>): void {
    it(title, async ({ skip }) => {
      const supports: StateSupports = { etags: true, metadata: true, ...this.driver.supports };
      const missing = needs.find((capability) => !supports[capability]);
      if (missing !== undefined) skip(`the driver's supports.${missing} is false`);
      await test();
    });
  }

  async get(key: string): Promise<Item | undefined> {
    const items = await this.driver.get([key], this.call);
    expect(items).toHaveLength(1);
    return items[0];
  }

  /** The value as text; undefined when there is no item. */
  async textOf(key: string): Promise<string | undefined> {
    const item = await this.get(key);
    return item && textOf(item);
  }

  /** Writes one item and returns its etag. */
  async set(
    key: string,
    value: string | Uint8Array = "value",
    options: Partial<ItemOptions> & { precondition?: Precondition } = {},
  ): Promise<string> {
    const [etag] = await this.driver.write([setOf(key, value, options)], this.call);
    return etag!;
  }

  async delete(key: string, precondition?: Precondition): Promise<void> {
    expect(await this.driver.write([deleteOf(key, precondition)], this.call)).toEqual([""]);
  }
}

/** A set, with nothing beside the value unless given. */
export function setOf(
  key: string,
  value: string | Uint8Array = "value",
  options: Partial<ItemOptions> & { precondition?: Precondition } = {},
): Write {
  return {
    kind: "set",
    key,
    value: typeof value === "string" ? bytesOf(value) : value,
    contentType: options.contentType ?? "",
    metadata: options.metadata ?? {},
    expiresAtMs: options.expiresAtMs,
    precondition: options.precondition,
  };
}

export function deleteOf(key: string, precondition?: Precondition): Write {
  return { kind: "delete", key, precondition };
}

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** The value of an item as text; fails when the store left it out. */
export function textOf(item: Item): string {
  expect(item.value).toBeDefined();
  return new TextDecoder().decode(item.value);
}

/** Bytes that look random and are the same each time. */
export function pattern(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** Compares large values without a diff of megabytes in the output. */
export function expectSameBytes(actual: Uint8Array | undefined, expected: Uint8Array): void {
  expect(actual?.byteLength).toBe(expected.byteLength);
  expect(Buffer.compare(actual!, expected)).toBe(0);
}
