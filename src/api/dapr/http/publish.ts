/** `/v1.0/publish`: Dapr's publish API over HTTP. */
import * as z from "zod";
import { jsonElements, jsonMembers } from "../../../blocks/pubsub/json-text.ts";
import type { HttpRoute, RouteRequest } from "../../../server/http-route.ts";
import { anyCase, memberOf } from "../any-case.ts";
import { daprErrors } from "../errors.ts";
import { goBodies } from "../go-types.ts";
import type { BulkEntry, DaprPublish, Destination } from "../publish.ts";
import { json, noContent, postAndPut } from "./answers.ts";
import { jsonBody, queryMetadata } from "./requests.ts";

const bulkEntries = z
  .array(
    anyCase({
      entryid: z.string().nullish(),
      contenttype: z.string().nullish(),
      metadata: z.record(z.string(), z.string()).nullish(),
    }),
  )
  .nullable();

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

/** The entries, with their events' bytes. */
function entriesOf(request: RouteRequest, publish: DaprPublish, to: Destination): BulkEntry[] {
  const refuse = (why: string) => publish.unmarshalError(to, why);
  const { text, value: entries } = jsonBody(request, bulkEntries, goBodies.bulkPublish, refuse);
  const documents = jsonElements(text) ?? [];
  const common = queryMetadata(request);
  return (entries ?? []).map(({ entryid, contenttype, metadata }, index) => {
    const [entryId, contentType, document] = [entryid ?? "", contenttype ?? "", documents[index]!];
    const data = bytesOf(memberOf(jsonMembers(document), "event") ?? "null", contentType);
    if (typeof data === "string") throw publish.envelopeError(to, data);
    return { entryId, contentType, data, metadata: { ...common, ...metadata } };
  });
}

/** The bytes of an event that is given as JSON: which of it is meant, its content type says. Else what is wrong with it. */
function bytesOf(event: string, contentType: string): Uint8Array | string {
  const type = contentType.split(";", 1)[0]!.toLowerCase();
  if (type === "application/json" || type === "application/cloudevents+json") return Buffer.from(event);
  const text = event.startsWith('"') ? (JSON.parse(event) as string) : undefined;
  const isText = type.startsWith("text/") || type === "application/xml";
  if (text === undefined || !(isText || type === "application/octet-stream"))
    return "error: mismatch between contentType and event";
  if (isText) return Buffer.from(text);
  if (isBase64(text)) return Buffer.from(text, "base64");
  return "error: unable to decode base64 application/octect-stream data";
}

/** As in Go: the padding is there, line ends are passed over. */
function isBase64(text: string): boolean {
  const letters = text.replace(/[\r\n]/g, "");
  return letters.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(letters);
}
