/** What the two applications tell each other. */
import { Reject } from "./sidecar.ts";

/** Topics. The key of every event is the id of the order. */
export const topics = { placed: "order.placed", shipped: "order.shipped" } as const;

/** What a customer wants. */
export interface Order {
  readonly id: string;
  readonly item: string;
  /** Pieces, 1 or more. */
  readonly quantity: number;
}

/** Reads an order. Throws Reject when it is none. */
export function orderFrom(json: Uint8Array): Order {
  const { id, item, quantity } = decode<Partial<Record<keyof Order, unknown>>>(json) ?? {};
  const complete = typeof id === "string" && typeof item === "string" && typeof quantity === "number";
  if (!complete || !Number.isSafeInteger(quantity) || quantity < 1) throw new Reject("this is no order");
  return { id, item, quantity };
}

/** A value as it is stored and sent. */
export function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

/** The opposite of `encode`. Throws Reject when it is no JSON. */
export function decode<T>(json: Uint8Array): T {
  try {
    return JSON.parse(Buffer.from(json).toString());
  } catch {
    throw new Reject("this is not JSON");
  }
}
