import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { TopicSubscriptionSchema } from "../../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import { subscriptionOfMessage, subscriptionsOfJson } from "../../../../src/api/dapr/app/discovery.ts";
import { pathOf } from "../../../../src/api/dapr/app/http-channel.ts";

const read = (value: unknown) => subscriptionsOfJson(JSON.stringify(value));
const one = {
  ...{ pubsubName: "p", topic: "t", metadata: {}, raw: false, rules: [], deadLetterTopic: "" },
  ...{ defaultPath: "/a", bulk: undefined },
};

describe("what an application lists over HTTP", () => {
  it("is read in both forms, with names in any letter case", () => {
    expect(read([{ pubsubname: "p", topic: "t", route: "/a" }])).toEqual([one]);
    expect(read([{ pubsubName: "p", Topic: "t", routes: { Default: "/a" }, route: "" }])).toEqual([one]);
    const rules = [{ match: "m", path: "/m" }, { path: "/all" }];
    expect(read([{ pubsubname: "p", topic: "t", routes: { rules } }])).toMatchObject([
      {
        rules: [
          { match: "m", path: "/m" },
          { match: "", path: "/all" },
        ],
        defaultPath: "",
      },
    ]);
  });

  it("has Dapr's defaults for bulk deliveries, and takes metadata that is no text", () => {
    const bulk = (bulkSubscribe: object) =>
      read([{ pubsubname: "p", topic: "t", route: "/a", bulkSubscribe }])[0]!.bulk;
    expect(bulk({ enabled: true })).toEqual({ maxMessages: 100, maxAwaitMs: 1000 });
    expect(bulk({ enabled: true, maxMessagesCount: 5, maxAwaitDurationMs: 40 })).toEqual({
      maxMessages: 5,
      maxAwaitMs: 40,
    });
    expect(bulk({ enabled: false, maxMessagesCount: 5 })).toBeUndefined();
    const metadata = { rawPayload: true, priority: 3 };
    expect(read([{ pubsubname: "p", topic: "t", route: "/a", metadata }])[0]!.metadata).toEqual({
      rawPayload: "true",
      priority: "3",
    });
  });

  it("may have entries without a route, which are left out, and nothing at all", () => {
    expect(
      read([
        { pubsubname: "p", topic: "t" },
        { topic: "t", route: "/a" },
      ]),
    ).toEqual([]);
    expect(read(null)).toEqual([]);
    expect(() => read({ pubsubname: "p" })).toThrow(/array/);
    expect(() => subscriptionsOfJson("<html>")).toThrow();
  });
});

describe("what an application lists over gRPC", () => {
  it("needs no route", () => {
    const message = create(TopicSubscriptionSchema, { pubsubName: "p", topic: "t" });
    expect(subscriptionOfMessage(message)).toEqual({ ...one, defaultPath: "" });
  });
});

describe("a route", () => {
  it.each([
    ["orders", "/orders"],
    ["/a/b?c=d", "/a/b?c=d"],
    ["/with blank", "/with%20blank"],
    ["/a%20b", "/a%20b"],
    ["/100%", "/100%25"],
    ["/#x", "/%23x"],
    ['/"\\ü漢', "/%22%5C%C3%BC%E6%BC%A2"],
    ["/lone\ud800", "/lone%EF%BF%BD"],
  ])("is a path: %s", (route, path) => {
    expect(pathOf(route)).toBe(path);
  });
});
