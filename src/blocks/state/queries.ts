/** Requests for several items by their keys' beginning, and the tokens by which they go on. */
import type { ListRequest, WatchRequest } from "../../../gen/outrider/state/v1/state_pb.ts";
import type { WatchSelector } from "./driver.ts";
import { keyViolation, prefixViolation } from "./keys.ts";
import { maxBatchSize, Violations } from "./requests.ts";
import { openText, sealText } from "./sealed-text.ts";
import type { ListQuery } from "./store.ts";

/** Items in a page when the request does not say. */
const defaultPageSize = 100;

/** What a List asks for, of the store with this name. Throws the fault INVALID_REQUEST. */
export function parseList(request: ListRequest, store: string): Omit<ListQuery, "maxBytes"> {
  const { prefix, pageSize, pageToken, keysOnly } = request;
  const violations = new Violations();
  violations.add("prefix", prefixViolation(prefix));
  if (pageSize > maxBatchSize) violations.add("page_size", `must be at most ${maxBatchSize}`);
  const after = pageToken === "" ? undefined : openText(pageScope(store, prefix), pageToken);
  if (pageToken !== "" && after === undefined) {
    violations.add("page_token", "must be the next_page_token of a page of the same component and prefix");
  }
  violations.throwIfAny();
  return { prefix, after, limit: pageSize || defaultPageSize, keysOnly };
}

/** The `next_page_token` of a page that goes on after a key. */
export function pageToken(store: string, prefix: string, after: string | undefined): string {
  return after === undefined ? "" : sealText(pageScope(store, prefix), after);
}

/** What a Watch asks for, of the store with this name. Throws the fault INVALID_REQUEST. */
export function parseWatch({ selector, resumeAfter }: WatchRequest, store: string): WatchSelector {
  const violations = new Violations();
  if (selector.case === undefined) violations.add("selector", "must be key or prefix");
  else if (selector.case === "key") violations.add("key", keyViolation(selector.value));
  else violations.add("prefix", prefixViolation(selector.value));
  const position = resumeAfter === "" ? undefined : openText(positionScope(store), resumeAfter);
  if (resumeAfter !== "" && position === undefined) {
    violations.add("resume_after", "must be the position of a WatchResponse of the same component");
  }
  violations.throwIfAny();
  return selector.case === "key"
    ? { kind: "key", key: selector.value, resumeAfter: position }
    : { kind: "prefix", prefix: selector.value ?? "", resumeAfter: position };
}

/** The `position` of a WatchResponse. */
export function positionToken(store: string, position: string | undefined): string {
  return position === undefined ? "" : sealText(positionScope(store), position);
}

function pageScope(store: string, prefix: string): string {
  return `page\0${store}\0${prefix}`;
}

function positionScope(store: string): string {
  return `position\0${store}`;
}
