import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { EventSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { fromRecord, toRecord } from "../../../src/components/kafka/event-records.ts";
import type { FetchedRecord } from "../../../src/components/kafka/record-batch.ts";
import { outgoing } from "../../conformance/pubsub/fixture.ts";

const bytes = (text: string) => Buffer.from(text);

/** A record as a broker gives it. */
function record(value: string | null, headers: Record<string, string> = {}): FetchedRecord {
  return {
    offset: 0,
    timestampMs: 0,
    key: null,
    value: value === null ? null : bytes(value),
    headers: Object.entries(headers).map(([name, text]) => [name, bytes(text)] as const),
  };
}

describe("records that others wrote", () => {
  it("are read as Dapr writes them: a document without a header that says so", () => {
    const dapr = {
      data: { orderId: 42, price: 12.5 },
      datacontenttype: "application/json",
      id: "5929aaac-a5e2-4ca1-859c-edfe73f11565",
      pubsubname: "pubsub",
      source: "checkout",
      specversion: "1.0",
      time: "2026-03-09T10:20:30Z",
      topic: "orders",
      traceid: "00-113ad9c4e42b27583ae98ba698d54255-e3743e35ff56f219-01",
      tracestate: "",
      type: "com.dapr.event.sent",
    };
    const { event, notCloudEvent, headers } = fromRecord(record(JSON.stringify(dapr)), false);
    expect(notCloudEvent).toBeUndefined();
    expect(headers).toEqual({});
    expect(event).toMatchObject({ id: dapr.id, source: "checkout", type: "com.dapr.event.sent" });
    expect(event.extensions).toMatchObject({ topic: "orders", pubsubname: "pubsub" });
    expect(event.time?.seconds).toBe(BigInt(Date.parse(dapr.time) / 1000));
    expect(Buffer.from(event.data).toString()).toBe('{"orderId":42,"price":12.5}');
  });

  it("expire when Dapr's attribute says so, which is no part of the event", () => {
    const document = {
      specversion: "1.0",
      id: "1",
      source: "s",
      type: "t",
      expiration: "2026-03-09T10:20:30Z",
    };
    const { event, expiresAtMs } = fromRecord(record(JSON.stringify(document)), false);
    expect(expiresAtMs).toBe(Date.parse("2026-03-09T10:20:30Z"));
    expect(event.extensions).toEqual({});
  });

  it("are read in binary mode: attributes in headers, and the others beside them", () => {
    const headers = {
      ce_specversion: "1.0",
      ce_id: "1",
      ce_source: "/s",
      ce_type: "t",
      ce_subject: "sub",
      ce_time: "2026-01-31T23:59:59.123456789Z",
      ce_custom: "kept",
      "content-type": "application/json; charset=utf-8",
      other: "header",
    };
    const read = fromRecord(record('{"a":1}', headers), false);
    expect(read.notCloudEvent).toBeUndefined();
    expect(read.headers).toEqual({ other: "header" });
    expect(read.event).toMatchObject({
      id: "1",
      source: "/s",
      type: "t",
      subject: "sub",
      extensions: { custom: "kept" },
    });
    expect(read.event.dataContentType).toBe("application/json; charset=utf-8");
    expect(read.event.time?.nanos).toBe(123_456_789);
  });

  it("keep the extensions whose names only the specification allows, in either mode", () => {
    const extensions = { com_example_trace_of_the_order: "1", UpperCase: "2" };
    const attributes = { specversion: "1.0", id: "1", source: "s", type: "t", ...extensions };
    const inHeaders = Object.entries(attributes).map(([name, value]) => [`ce_${name}`, value]);
    for (const one of [record(JSON.stringify(attributes)), record("x", Object.fromEntries(inHeaders))]) {
      const { event, notCloudEvent } = fromRecord(one, false);
      expect(notCloudEvent).toBeUndefined();
      expect(event.extensions).toEqual(extensions);
    }
  });

  it.each([
    ["no JSON", record("plain text"), "there is no envelope"],
    ["no value", record(null), "the record has no value"],
    ["JSON of something else", record('{"order":1}'), "there is no envelope"],
    [
      "an envelope without a type",
      record('{"specversion":"1.0","id":"1","source":"s"}'),
      "type: must be set",
    ],
    [
      "a half one that says it is one",
      record("{", { "content-type": "application/cloudevents+json" }),
      "must be a CloudEvent",
    ],
    [
      "binary mode without an id",
      record("x", { ce_specversion: "1.0", ce_type: "t", ce_source: "s" }),
      '"ce_id" is missing',
    ],
    [
      "a time that is none",
      record('{"specversion":"1.0","id":"1","source":"s","type":"t","time":"noon"}'),
      "time",
    ],
  ])("that are no CloudEvents come with their bytes and the reason: %s", (_name, one, why) => {
    const { event, notCloudEvent } = fromRecord(one, false);
    expect(notCloudEvent).toContain(why);
    expect(Buffer.from(event.data)).toEqual(Buffer.from(one.value ?? ""));
    expect(event.id).toBe("");
  });
});

describe("records that we write", () => {
  const event = create(EventSchema, {
    id: "1",
    source: "s",
    type: "t",
    dataContentType: "text/plain",
    data: bytes("text"),
    extensions: { custom: "value" },
    time: { seconds: 1_700_000_000n, nanos: 120_000_000 },
  });

  it("are one document, with the header that says so, or headers and the data as they are", () => {
    const structured = toRecord(outgoing("", { event, key: "k", headers: { h: "v" } }), "structured", 0);
    expect(structured.key).toBe("k");
    expect(structured.headers).toEqual([
      ["h", "v"],
      ["content-type", "application/cloudevents+json"],
    ]);
    expect(JSON.parse(structured.value as string)).toMatchObject({
      specversion: "1.0",
      id: "1",
      data: "text",
    });
    const binary = toRecord(outgoing("", { event, headers: { h: "v" } }), "binary", 0);
    expect(binary.key).toBeNull();
    expect(binary.value).toEqual(event.data);
    expect(Object.fromEntries(binary.headers)).toEqual({
      ce_specversion: "1.0",
      ce_id: "1",
      ce_source: "s",
      ce_type: "t",
      ce_custom: "value",
      ce_time: "2023-11-14T22:13:20.120Z",
      "content-type": "text/plain",
      h: "v",
    });
  });

  it("say when they expire, in a way that Dapr reads", () => {
    const { value } = toRecord(outgoing("", { event, timeToLiveMs: 5000 }), "structured", 1_700_000_000_000);
    expect(JSON.parse(value as string).expiration).toBe("2023-11-14T22:13:25.000Z");
  });
});

describe("times", () => {
  const timeOf = (time: string) => {
    const headers = { ce_specversion: "1.0", ce_id: "1", ce_source: "s", ce_type: "t", ce_time: time };
    const { event, notCloudEvent } = fromRecord(record("", headers), false);
    return notCloudEvent === undefined ? `${event.time?.seconds}.${event.time?.nanos}` : "none";
  };

  it.each([
    ["2026-01-28T00:00:00Z", 0],
    ["2026-01-31T23:59:59Z", 0],
    ["2024-02-29T12:00:00.5Z", 500_000_000],
    ["2026-02-28T12:00:00.000000001Z", 1],
    ["2026-02-28T12:00:00.123Z", 123_000_000],
    ["1999-12-31T23:59:59.999999999Z", 999_999_999],
    ["2026-02-28T12:00:00+02:00", 0],
  ])("are read to the nanosecond: %s", (text, nanos) => {
    const wholeSeconds = Math.floor(Date.parse(text.replace(/\.\d+/, "")) / 1000);
    expect(timeOf(text)).toBe(`${wholeSeconds}.${nanos}`);
  });

  it.each(["2026-13-01T12:00:00Z", "2026-01-01T25:00:00Z", "2026-01-01 12:00:00Z", "yesterday"])(
    "that are none are told: %s",
    (text) => expect(timeOf(text)).toBe("none"),
  );
});
