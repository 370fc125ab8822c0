/** Dapr's query API over the state block. Only stores that are processes of their own can be queried. */
import * as z from "zod";
import { componentStatusOf } from "../../blocks/component-status.ts";
import { jsonMembers } from "../../blocks/pubsub/json-text.ts";
import type { QueryPage, StateQuery } from "../../blocks/state/driver.ts";
import type { StateCall } from "../../blocks/state/operation.ts";
import type { StateStore } from "../../blocks/state/store.ts";
import { reasonOf } from "../../faults.ts";
import { DaprError, daprErrors } from "./errors.ts";
import { readAsGo } from "./go-json.ts";

const queryText = z.object({
  filter: z.record(z.string(), z.unknown()).nullish(),
  sort: z.array(z.object({ key: z.string(), order: z.string().nullish() })).nullish(),
  page: z.object({ limit: z.int().nonnegative().nullish(), token: z.string().nullish() }).nullish(),
});

/** Runs a query that is given as JSON. Throws DaprError. */
export async function queryState(
  store: StateStore,
  text: string,
  metadata: Readonly<Record<string, string>>,
  call: StateCall,
): Promise<QueryPage> {
  const resource = { type: "state", name: store.name };
  const read = () => {
    if (store.encrypted) throw failed(store, "cannot query encrypted store");
    return parse(store, text, metadata);
  };
  try {
    const page = await store.query(read, call);
    return { ...page, items: page.items.map((item) => ({ ...item, key: originalKey(item.key) })) };
  } catch (error) {
    if (error instanceof DaprError) throw error;
    if (reasonOf(error) === "NOT_SUPPORTED")
      throw new DaprError(daprErrors.stateQueryNotSupported, "state store does not support querying", {
        resource,
        cause: error,
      });
    const status = componentStatusOf(error);
    if (status?.asked) {
      const { tag, reason, domain, status: httpStatus } = status.asked;
      const kind = { code: status.code, status: httpStatus, errorCode: tag, reason };
      throw new DaprError(kind, status.message, { domain, cause: error });
    }
    throw failed(store, status?.text ?? (error instanceof Error ? error.message : String(error)), error);
  }
}

function parse(store: StateStore, text: string, metadata: Readonly<Record<string, string>>): StateQuery {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const verdict = readAsGo(Buffer.from(text), "whole");
    const why = "error" in verdict ? verdict.error : (error as Error).message;
    throw failed(store, `failed to parse JSON query body: ${why}`);
  }
  const read = queryText.safeParse(json);
  if (!read.success) throw failed(store, `failed to parse JSON query body: ${z.prettifyError(read.error)}`);
  const { sort, page } = read.data;
  return {
    filter: Object.fromEntries(jsonMembers(jsonMembers(text)?.get("filter") ?? "{}") ?? []),
    sort: (sort ?? []).map(({ key, order }) => ({ key, descending: order === "DESC" })),
    limit: page?.limit ?? 0,
    token: page?.token ?? "",
    metadata,
  };
}

function failed(store: StateStore, why: string, cause?: unknown): DaprError {
  const resource = { type: "state", name: store.name };
  return new DaprError(daprErrors.stateQuery, `state store ${store.name} query failed: ${why}`, {
    resource,
    cause,
  });
}

/** What stands after a prefix, also one that is not this application's. */
function originalKey(key: string): string {
  return key.slice(key.lastIndexOf("||") + (key.includes("||") ? 2 : 1));
}
