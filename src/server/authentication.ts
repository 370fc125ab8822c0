/** API tokens: who may call at all. */
import { hash, timingSafeEqual } from "node:crypto";
import type { ConnectError } from "@connectrpc/connect";
import { fault } from "../faults.ts";

/** The headers that may carry a token; the first that is there counts. */
export const tokenHeaders = ["outrider-api-token", "dapr-api-token"] as const;

/** What callers without a token are told, and those with another. */
export interface TokenRefusals {
  missing(): ConnectError;
  wrong(): ConnectError;
}

const usualRefusals: TokenRefusals = {
  missing: () => fault("UNAUTHENTICATED", `an API token is required in the header ${tokenHeaders[0]}`),
  wrong: () => fault("UNAUTHENTICATED", "the API token is wrong"),
};

/** The tokens that a server takes. */
export class ApiTokens {
  readonly #digests: readonly Buffer[];

  /** No token, or only empty ones: everyone may call. */
  constructor(tokens: readonly string[] = []) {
    this.#digests = tokens.filter((token) => token !== "").map(digest);
  }

  /** Whether calls need a token. */
  get required(): boolean {
    return this.#digests.length > 0;
  }

  /** The error for a call that comes with this token; undefined when it may go on. */
  refusal(token: string | undefined, refusals = usualRefusals): ConnectError | undefined {
    if (!this.required) return undefined;
    if (token === undefined || token === "") return refusals.missing();
    // Digests have one length, and all of them are compared: how long it takes says nothing.
    const given = digest(token);
    let accepted = false;
    for (const expected of this.#digests) accepted = timingSafeEqual(given, expected) || accepted;
    return accepted ? undefined : refusals.wrong();
  }
}

function digest(token: string): Buffer {
  return hash("sha256", token, "buffer");
}
