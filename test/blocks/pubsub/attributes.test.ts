import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { EventSchema } from "../../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { eventViolations } from "../../../src/blocks/pubsub/attributes.ts";

/** The fields at fault of a complete event with other attributes. */
function fieldsOf(more: MessageInitShape<typeof EventSchema>): string[] {
  const event = create(EventSchema, { id: "1", source: "s", type: "t", ...more });
  return eventViolations(event, "event").map(({ field }) => field);
}

describe("attributes of an event", () => {
  it("are fine when the required ones are there", () => {
    expect(fieldsOf({})).toEqual([]);
    expect(
      fieldsOf({
        time: { seconds: 0n, nanos: 999_999_999 },
        extensions: { traceparent: "nonsense is passed on" },
      }),
    ).toEqual([]);
  });

  it("must include the required ones", () => {
    expect(fieldsOf({ id: "", source: "", type: "" })).toEqual(["event.id", "event.source", "event.type"]);
  });

  it.each([
    ["id", "id"],
    ["source", "source"],
    ["type", "type"],
    ["subject", "subject"],
    ["dataContentType", "data_content_type"],
    ["dataSchema", "data_schema"],
  ])("have at most 1,024 bytes of UTF-8 and no control characters: %s", (name, field) => {
    expect(fieldsOf({ [name]: "x".repeat(1024) })).toEqual([]);
    expect(fieldsOf({ [name]: "x".repeat(1025) })).toEqual([`event.${field}`]);
    expect(fieldsOf({ [name]: "ü".repeat(512) })).toEqual([]);
    expect(fieldsOf({ [name]: "ü".repeat(513) })).toEqual([`event.${field}`]);
    for (const bad of ["a\nb", "a\u0000", "\u007f", "\u0085", "\ud800"]) {
      expect(fieldsOf({ [name]: bad })).toEqual([`event.${field}`]);
    }
    expect(fieldsOf({ [name]: "spaces, ümläuts, 日本 and \u{1f680}" })).toEqual([]);
  });

  it("have a time that can be written", () => {
    const time = (seconds: bigint, nanos = 0) => fieldsOf({ time: { seconds, nanos } });
    expect(time(-62_135_596_800n)).toEqual([]);
    expect(time(-62_135_596_801n)).toEqual(["event.time"]);
    expect(time(253_402_300_799n, 999_999_999)).toEqual([]);
    expect(time(253_402_300_800n)).toEqual(["event.time"]);
    expect(time(0n, 1_000_000_000)).toEqual(["event.time"]);
    expect(time(0n, -1)).toEqual(["event.time"]);
  });

  it.each(["a", "0", "comexampleext", "x".repeat(20), "constructor"])(
    "may have an extension called %s",
    (name) => {
      expect(fieldsOf({ extensions: { [name]: "" } })).toEqual([]);
    },
  );

  it.each([
    "",
    "Upper",
    "with-dash",
    "with_underscore",
    "ü",
    "x".repeat(21),
    "id",
    "source",
    "specversion",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
  ])("may have no extension called %j", (name) => {
    expect(fieldsOf({ extensions: { [name]: "x" } })).toEqual([`event.extensions[${JSON.stringify(name)}]`]);
  });

  it("have extensions of at most 8,192 bytes, and at most 64 of them", () => {
    expect(fieldsOf({ extensions: { baggage: "x".repeat(8192) } })).toEqual([]);
    expect(fieldsOf({ extensions: { baggage: "x".repeat(8193) } })).toEqual(['event.extensions["baggage"]']);
    const many = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`e${index}`, "x"]));
    expect(fieldsOf({ extensions: many(64) })).toEqual([]);
    expect(fieldsOf({ extensions: many(65) })).toEqual(["event.extensions"]);
  });
});
