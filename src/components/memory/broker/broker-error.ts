import type { ErrorClass } from "../../../blocks/call.ts";

/** What the broker in memory throws, classified already. */
export class BrokerError extends Error {
  override readonly name = "BrokerError";
  readonly kind: ErrorClass;

  constructor(kind: ErrorClass, message: string) {
    super(message);
    this.kind = kind;
  }
}
