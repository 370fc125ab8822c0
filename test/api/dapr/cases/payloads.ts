/** What the cases publish, and what they expect of it. */
import { expect } from "vitest";
import type { Daprd } from "../daprd.ts";
import type { GrpcApp } from "../grpc-app.ts";
import type { AppCall, HttpApp } from "../http-app.ts";

/** The data of most cases. */
export const DATA = '{"status": "completed"}';

/** What is published over HTTP, and how it arrives. */
const publishes = [
  { data: DATA, type: "", datacontenttype: "text/plain", inBody: DATA },
  {
    data: DATA,
    type: "application/json",
    datacontenttype: "application/json",
    inBody: { status: "completed" },
  },
  { data: DATA, type: "foo/bar", datacontenttype: "foo/bar", inBody: DATA },
  { data: "foo", type: "", datacontenttype: "text/plain", inBody: "foo" },
] as const;

/** What every event has. */
const common = { specversion: "1.0", type: "com.dapr.event.sent", pubsubname: "mypub" };

/** Publishes P1 to P4 to topic `a`, and expects them at `path` as HTTP events. */
export async function expectHttpEvents(daprd: Daprd, app: HttpApp, path: string): Promise<void> {
  for (const [index, { data, type, datacontenttype, inBody }] of publishes.entries()) {
    expect(await daprd.publish("a", data, headersOf(type))).toBe(204);
    const { body } = await app.delivered(path, index);
    expect(body).toMatchObject({ ...common, topic: "a", datacontenttype, data: inBody });
  }
}

/** Publishes P1 to P4 to topic `a`, and expects them at `path` as a subscription gets them that wants records. */
export async function expectRawHttpEvents(daprd: Daprd, app: HttpApp, path: string): Promise<void> {
  for (const [index, { data, type, datacontenttype, inBody }] of publishes.entries()) {
    expect(await daprd.publish("a", data, headersOf(type))).toBe(204);
    const { body } = await app.delivered(path, index);
    expect(body).toMatchObject({ ...common, topic: "a", datacontenttype: "application/octet-stream" });
    const bytes = Buffer.from(String(body!["data_base64"]), "base64");
    expectInner(bytes, datacontenttype, inBody);
  }
}

/** Publishes P2 to P4 to topic `a`, and expects them with `path` as gRPC events. */
export async function expectGrpcEvents(daprd: Daprd, app: GrpcApp, path: string): Promise<void> {
  const expected = [
    ["application/json", DATA],
    ["foo/bar", ""],
    ["text/plain", "foo"],
  ] as const;
  await publishThree(daprd);
  for (const [index, [dataContentType, data]] of expected.entries()) {
    const { event } = await app.delivered("a", index);
    expect(event).toMatchObject({ path, dataContentType, topic: "a", pubsubName: "mypub" });
    expect(event).toMatchObject({ specVersion: "1.0", type: "com.dapr.event.sent" });
    expect(Buffer.from(event.data).toString()).toBe(data);
  }
}

/** The same for a subscription that wants records. */
export async function expectRawGrpcEvents(daprd: Daprd, app: GrpcApp, path: string): Promise<void> {
  await publishThree(daprd);
  for (const [index, { datacontenttype, inBody }] of publishes.slice(1).entries()) {
    const { event } = await app.delivered("a", index);
    expect(event).toMatchObject({ path, dataContentType: "application/octet-stream", topic: "a" });
    expectInner(event.data, datacontenttype, inBody);
  }
}

/** Publishes four entries in bulk to a topic, and expects that none failed. */
export async function bulkPublish(daprd: Daprd, topic: string, over: "grpc" | "http"): Promise<void> {
  const contentType = "application/json";
  const entries = [1, 2, 3, 4].map((id) => ({ entryId: `${id}`, event: `{"id": ${id}}`, contentType }));
  if (over === "http") {
    const response = await fetch(daprd.url(`/v1.0/publish/bulk/mypub/${topic}`), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(entries),
    });
    expect(response.status).toBe(204);
    return;
  }
  const { failedEntries } = await daprd.grpc.bulkPublishEvent({
    pubsubName: "mypub",
    topic,
    entries: entries.map((entry) => ({ ...entry, event: Buffer.from(entry.event) })),
  });
  expect(failedEntries).toEqual([]);
}

/** Answers a bulk delivery with a success for each entry. */
export function bulkSuccess({ body }: AppCall): { status: number; body: string } {
  const entries = (body?.["entries"] ?? []) as readonly { readonly entryId: string }[];
  const statuses = entries.map(({ entryId }) => ({ entryId, status: "SUCCESS" }));
  return { status: 200, body: JSON.stringify({ statuses: entries.length > 0 ? statuses : null }) };
}

/** Expects the four bulk calls of `a`, and the four plain ones of `b`, of a bulk publish to each. */
export async function expectBulkOverHttp(daprd: Daprd, app: HttpApp): Promise<void> {
  await bulkPublish(daprd, "a", "http");
  await app.delivered("/a", 3);
  for (const [index, { body }] of app.to("/a").entries()) {
    expect(body).toMatchObject({ topic: "a", pubsubname: "mypub", type: "com.dapr.event.sent.bulk" });
    const [entry, ...others] = body!["entries"] as readonly {
      readonly event: object;
      readonly entryId: string;
    }[];
    expect(others).toEqual([]);
    // What is given as a string is a string, whatever is in it.
    expect(entry).toMatchObject({ event: { data: `{"id": ${index + 1}}`, topic: "a" } });
    expect(entry!.entryId).not.toBe("");
  }
  await bulkPublish(daprd, "b", "http");
  await app.delivered("/b", 3);
  const strings = [1, 2, 3, 4].map((id) => `{"id": ${id}}`);
  expect(app.to("/b").map(({ body }) => body!["data"])).toEqual(strings);
  expect(app.to("/a")).toHaveLength(4);
}

/** Publishes to a topic without data over HTTP, and expects it on one path. */
export async function expectRoute(daprd: Daprd, app: HttpApp, topic: string, path: string): Promise<void> {
  const before = app.calls.length;
  expect(await daprd.publish(topic)).toBe(204);
  await expect.poll(() => app.calls.length, { timeout: 5000, interval: 5 }).toBe(before + 1);
  const call = app.calls[before]!;
  expect(call.path).toBe(path);
  expect(call.body).toMatchObject({ ...common, topic });
  expect(call.body!["data"] ?? "").toBe("");
}

/** Publishes to a topic without data over gRPC, and expects it with one path. */
export async function expectPath(daprd: Daprd, app: GrpcApp, topic: string, path: string): Promise<void> {
  const before = app.of(topic).length;
  await daprd.publishEvent(topic);
  const { event } = await app.delivered(topic, before);
  expect(event.path).toBe(path);
  expect(event.data).toHaveLength(0);
}

async function publishThree(daprd: Daprd): Promise<void> {
  const { grpc } = daprd;
  const metadata = { foo: "bar" };
  const to = { pubsubName: "mypub", topic: "a" };
  await grpc.publishEvent({ ...to, data: Buffer.from(DATA), dataContentType: "application/json", metadata });
  await grpc.publishEvent({ ...to, data: Buffer.from(DATA), dataContentType: "foo/bar" });
  await grpc.publishEvent({ ...to, data: Buffer.from("foo") });
}

function expectInner(bytes: Uint8Array, datacontenttype: string, data: unknown): void {
  const inner = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  const any = expect.any(String);
  expect(inner).toEqual({
    ...{ id: any, source: any, time: any, traceid: any, traceparent: any, tracestate: "" },
    ...common,
    topic: "a",
    datacontenttype,
    data,
  });
}

function headersOf(type: string): Record<string, string> {
  return type === "" ? {} : { "content-type": type };
}
