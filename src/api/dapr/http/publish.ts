/** `/v1.0/publish`: Dapr's publish API over HTTP. */
import * as z from "zod";
import { jsonElements, jsonMembers } from "../../../blocks/pubsub/json-text.ts";
import type { HttpRoute, RouteRequest } from "../../../server/http-route.ts";
import { anyCase, memberOf } from "../any-case.ts";
import { daprErrors } from "../errors.ts";
import type { BulkEntry, DaprPublish, Destination } from "../publish.ts";
import { json, jsonBody, noContent, postAndPut, queryMetadata } from "./answers.ts";

const bulkEntry = anyCase({
  entryid: z.string().default(""),
  contenttype: z.string().default(""),
  metadata: z.record(z.string(), z.string()).nullish(),
});

/** The routes of the publish API. Topics may have slashes in them. */
export function publishRoutes(publish: DaprPublish): HttpRoute[] {
  const one = async (request: RouteRequest) => {
    const to = destinationOf(request);
    const input = {
      data: request.body,
      contentType: request.header("content-type"),
      metadata: queryMetadata(request),
    };
    await publish.publish(to, input, request.trace, request);
    return noContent;
  };
  const bulk = async (request: RouteRequest) => {
    const to = destinationOf(request);
    publish.bus(to);
    const failed = await publish.publishBulk(to, entriesOf(request, publish, to), request.trace, request);
    if (failed.length === 0) return noContent;
    const failedEntries = failed.map(({ entryId, error }) => ({ entryId, error }));
    return { ...json({ failedEntries, errorCode: daprErrors.pubsubPublish.errorCode }), status: 500 };
  };
  return [
    ...postAndPut("/v1.0/publish/:pubsub/*", one),
    ...postAndPut("/v1.0/publish/bulk/:pubsub/*", bulk),
    ...postAndPut("/v1.0-alpha1/publish/bulk/:pubsub/*", bulk),
  ];
}

function destinationOf({ params }: RouteRequest): Destination {
  return { pubsubName: params["pubsub"] ?? "", topic: params["*"] ?? "" };
}

/** The entries, each event as its JSON says: a string is text, or bytes in base64 where the type is binary. */
function entriesOf(request: RouteRequest, publish: DaprPublish, to: Destination): BulkEntry[] {
  let documents: readonly string[] | undefined;
  try {
    jsonBody(request);
    documents = jsonElements(Buffer.from(request.body).toString());
  } catch {
    documents = undefined;
  }
  if (!documents) throw publish.unmarshalError(to, "the body is no JSON array of entries");
  const common = queryMetadata(request);
  return documents.map((document) => {
    const parsed = bulkEntry.safeParse(JSON.parse(document));
    if (!parsed.success) throw publish.unmarshalError(to, z.prettifyError(parsed.error));
    const { entryid: entryId, contenttype: contentType, metadata } = parsed.data;
    const data = eventOf(memberOf(jsonMembers(document), "event"), contentType);
    return { entryId, contentType, data, metadata: { ...common, ...metadata } };
  });
}

function eventOf(event: string | undefined, contentType: string): Uint8Array {
  if (event === undefined || event === "null") return new Uint8Array();
  if (!event.startsWith('"')) return Buffer.from(event);
  const text = JSON.parse(event) as string;
  return Buffer.from(text, /^application\/octet-stream/i.test(contentType) ? "base64" : "utf8");
}
