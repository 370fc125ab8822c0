/** `/v1.0/state`: Dapr's state API over HTTP and JSON. */
import * as z from "zod";
import { compactJson, jsonElements, jsonMembers } from "../../../blocks/pubsub/json-text.ts";
import type { QueryPage } from "../../../blocks/state/driver.ts";
import type { HttpRoute, RouteAnswer, RouteRequest } from "../../../server/http-route.ts";
import { anyCase, memberOf } from "../any-case.ts";
import { goBodies } from "../go-types.ts";
import { type DaprState, itemMetadata } from "../state.ts";
import type { StateItemInput } from "../state-item.ts";
import { jsonText, noContent, postAndPut } from "./answers.ts";
import { jsonBody, malformedAs, queryMetadata } from "./requests.ts";

const metadata = z.record(z.string(), z.string()).nullish();
const options = anyCase({ concurrency: z.string().nullish(), consistency: z.string().nullish() }).nullish();
const about = { etag: z.string().nullish(), metadata, options, contenttype: z.string().nullish() };
const saved = anyCase({ key: z.string().nullish(), ...about });
const saves = z.array(saved).nullable();
const bulkGet = anyCase({ keys: z.array(z.string()).nullish(), metadata, parallelism: z.int().nullish() });
const transaction = anyCase({
  operations: z.array(anyCase({ operation: z.string(), request: saved })).nullish(),
  metadata,
});

/** The routes of the state API. */
export function stateRoutes(state: DaprState): HttpRoute[] {
  const save = async (request: RouteRequest) => {
    const name = request.params["store"]!;
    state.check(name);
    const items = itemsOf(request);
    const asText = state.isEncrypted(name);
    const own = asText ? items.map((each) => ({ ...each, value: textOf(each.value) })) : items;
    await state.save(name, own, request);
    return noContent;
  };
  const transact = async (request: RouteRequest) => {
    const name = request.params["store"]!;
    state.check(name);
    const { text, value: body } = jsonBody(request, transaction, goBodies.transaction);
    const operations = body.operations ?? [];
    const values = operationValues(text);
    const common = queryMetadata(request);
    const own = operations.map(({ operation, request: each }, index) => {
      const value = values[index] ?? new Uint8Array();
      const own = state.isEncrypted(name) ? textOf(value) : value;
      return { type: operation, item: inputOf(each, own, common), eventData: eventDataOf(each, value) };
    });
    await state.transact(name, own, request, () => request.trace);
    return noContent;
  };
  const getBulk = async (request: RouteRequest) => {
    const name = request.params["store"]!;
    state.check(name);
    const { keys, metadata: own } = jsonBody(request, bulkGet, goBodies.bulkGet).value;
    const hints = { ...queryMetadata(request), ...own };
    const items = await state.getBulk(name, keys ?? [], request, hints);
    return bulkAnswer(items);
  };
  const query = async (request: RouteRequest) => {
    const text = Buffer.from(request.body).toString();
    return queryAnswer(await state.query(request.params["store"]!, text, queryMetadata(request), request));
  };
  return [
    {
      method: "GET",
      path: "/v1.0/state/:store/:key",
      async handle(request) {
        const { store, key } = request.params as { store: string; key: string };
        const found = await state.get(store, key, request, queryMetadata(request));
        if (!found?.value?.byteLength) return noContent;
        const headers: Record<string, string> = { "content-type": "application/json", etag: found.etag };
        for (const [name, value] of Object.entries(itemMetadata(found))) headers[`metadata.${name}`] = value;
        return { status: 200, headers, body: found.value };
      },
    },
    {
      method: "DELETE",
      path: "/v1.0/state/:store/:key",
      async handle(request) {
        const { store, key } = request.params as { store: string; key: string };
        const etag = request.header("if-match") || undefined;
        const { query } = request;
        const options = { concurrency: query.get("concurrency"), consistency: query.get("consistency") };
        const about = { ...optionsOf(options), metadata: queryMetadata(request) };
        await state.delete(store, { key, etag, ...about }, request);
        return noContent;
      },
    },
    ...postAndPut("/v1.0/state/:store", save),
    ...postAndPut("/v1.0/state/:store/bulk", getBulk),
    ...postAndPut("/v1.0/state/:store/transaction", transact),
    ...postAndPut("/v1.0-alpha1/state/:store/query", query),
  ];
}

function bulkAnswer(items: Awaited<ReturnType<DaprState["getBulk"]>>): RouteAnswer {
  return jsonText(
    arrayOf(
      items.map(({ key, item: found, error }) => {
        const metadata = found ? itemMetadata(found) : {};
        return valueAnswer({ key, value: found?.value, etag: found?.etag ?? "", metadata, error });
      }),
    ),
  );
}

function queryAnswer({ items, token, metadata }: QueryPage): RouteAnswer {
  if (items.length === 0) return noContent;
  const more = JSON.stringify({
    ...(token !== "" && { token }),
    ...(Object.keys(metadata).length > 0 && { metadata }),
  });
  const results = arrayOf(items.map((each) => valueAnswer({ ...each, metadata: {} })));
  return jsonText(withMember("results", results, more));
}

/** An item as JSON. Its value is not parsed: numbers keep their digits. */
function valueAnswer(of: {
  readonly key: string;
  readonly value: Uint8Array | undefined;
  readonly etag: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly error: string;
}): string {
  const { key, value, etag, metadata, error } = of;
  const others = JSON.stringify({
    ...(etag !== "" && { etag }),
    ...(Object.keys(metadata).length > 0 && { metadata }),
    ...(error !== "" && { error }),
  });
  const withData = value?.byteLength ? withMember("data", readable(value), others) : others;
  return withMember("key", JSON.stringify(key), withData);
}

/** The JSON of an object, with one more member before the others. */
function withMember(name: string, value: string, object: string): string {
  return `{"${name}":${value}${object === "{}" ? "" : ","}${object.slice(1)}`;
}

function arrayOf(documents: readonly string[]): string {
  return `[${documents.join(",")}]`;
}

/** A value as JSON: as it is if it is JSON, else as text, else in base64. */
function readable(value: Uint8Array): string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(value);
  } catch {
    return JSON.stringify(Buffer.from(value).toString("base64"));
  }
  try {
    return compactJson(text);
  } catch {
    return JSON.stringify(text);
  }
}

/** The items of a save; `null` has none. */
function itemsOf(request: RouteRequest): StateItemInput[] {
  const { text, value: items } = jsonBody(request, saves, goBodies.save, malformedAs);
  if (items === null) return [];
  const documents = jsonElements(text) ?? [];
  const common = queryMetadata(request);
  return items.map(({ key, ...each }, index) => {
    if (!key) throw malformedAs('"key" is a required field');
    return inputOf({ ...each, key }, valueIn(documents[index]!), common);
  });
}

/** The values of a transaction's operations, as the JSON that they were given in. */
function operationValues(body: string): Uint8Array[] {
  const operations = memberOf(jsonMembers(body), "operations") ?? "[]";
  return (jsonElements(operations) ?? []).map((operation) =>
    valueIn(memberOf(jsonMembers(operation), "request") ?? "{}"),
  );
}

/** The member `value` of an object, as its JSON text: numbers keep their digits. `null` where there is none. */
function valueIn(document: string): Uint8Array {
  const value = memberOf(jsonMembers(document), "value");
  return Buffer.from(value ?? "null");
}

/** A string without its quotes, unless it is said to be JSON. */
function eventDataOf({ contenttype, metadata: own }: z.output<typeof saved>, value: Uint8Array): Uint8Array {
  return /^application\/json/i.test(contenttype || (own?.["contentType"] ?? "")) ? value : textOf(value);
}

/** JSON that is a string, without its quotes; what else it is stays. */
function textOf(value: Uint8Array): Uint8Array {
  const text = Buffer.from(value).toString();
  return text.startsWith('"') ? Buffer.from(JSON.parse(text) as string) : value;
}

/** `common` is the metadata of the request, which counts for more than that of its parts. */
function inputOf(
  given: z.output<typeof saved>,
  value: Uint8Array,
  common: Readonly<Record<string, string>>,
): StateItemInput {
  return {
    key: given.key ?? "",
    value,
    isJson: true,
    etag: given.etag ?? undefined,
    ...optionsOf(given.options ?? {}),
    metadata: {
      ...given.metadata,
      ...(given.contenttype && { contentType: given.contenttype }),
      ...common,
    },
  };
}

/** What the options of an item mean, in the words that Dapr's stores know. */
function optionsOf({ concurrency, consistency }: z.output<typeof options> & object) {
  const unknownConcurrency = concurrency && !/^(first|last)-write$/.test(concurrency);
  const unknownConsistency = consistency && !/^(strong|eventual)$/.test(consistency);
  return {
    firstWrite: concurrency === "first-write",
    refusal: unknownConsistency
      ? `unrecognized consistency model '${consistency}'`
      : unknownConcurrency
        ? `unrecognized concurrency model '${concurrency}'`
        : undefined,
  };
}
