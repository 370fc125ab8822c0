/** Requests over HTTP that make no sense, or little of it, and what is answered to them. */
import { describe, expect, it } from "vitest";
import { Daprd, inMemory } from "../daprd.ts";
import { component } from "./yaml.ts";

const resources = component("mystore", "state.in-memory") + inMemory();

interface Answer {
  readonly status: number;
  readonly errorCode?: string;
  readonly [member: string]: unknown;
}

async function ask(daprd: Daprd, method: string, path: string, body?: string): Promise<Answer> {
  const response = await fetch(daprd.url(path), { method, ...(body !== undefined && { body }) });
  const text = await response.text();
  const { status } = response;
  if (text === "") return { status };
  const answer: unknown = JSON.parse(text);
  return status >= 400 ? { status, ...(answer as object) } : { status, answer };
}

describe("bad input over HTTP", () => {
  it("that is no state is refused as malformed, and nothing of it is saved", async () => {
    await using daprd = await Daprd.start({ resources });
    for (const body of [
      ...["", "nul1", "{}", "[{}", "[{}]", '"text"', "1", '{"key":"k","value":1}'],
      ...['[{"key":"k","value":1},]', '[{"key":"k","value":1}', '[{"key":"k","value":01}]', "[\u0000]"],
      ...['[{"key":"k","value":1,"etag":123}]', '[{"key":1,"value":1}]', '[{"key":"k","metadata":{"a":1}}]'],
      ...['[{"ke":"k","value":1}]', '[{"key":"k","options":"x"}]', "[1]"],
    ])
      expect([body, await ask(daprd, "POST", "/v1.0/state/mystore", body)]).toMatchObject([
        body,
        { status: 400, errorCode: "ERR_MALFORMED_REQUEST" },
      ]);
    expect(await ask(daprd, "GET", "/v1.0/state/mystore/k")).toEqual({ status: 204 });
    for (const path of ["bulk", "transaction"])
      for (const body of ["", "{", "[]", '{"keys":1,"operations":1}', '{"keys":[1],"operations":[1]}'])
        expect([path, body, await ask(daprd, "POST", `/v1.0/state/mystore/${path}`, body)]).toMatchObject([
          path,
          body,
          { status: 400, errorCode: "ERR_MALFORMED_REQUEST" },
        ]);
  });

  it("is not looked at when there is no such store", async () => {
    await using daprd = await Daprd.start({ resources });
    for (const path of ["", "/bulk", "/transaction"])
      for (const body of ["", "{", "[]"])
        expect(await ask(daprd, "POST", `/v1.0/state/other${path}`, body)).toMatchObject({
          status: 400,
          errorCode: "ERR_STATE_STORE_NOT_FOUND",
          message: "state store other is not found",
        });
    expect(await ask(daprd, "POST", "/v1.0-alpha1/state/other/query", "{")).toMatchObject({
      status: 400,
      errorCode: "ERR_STATE_STORE_NOT_FOUND",
    });
  });

  it("is told of in Dapr's words", async () => {
    await using daprd = await Daprd.start({ resources });
    for (const [path, body, message] of [
      ["", "", "EOF"],
      ["", '[{"key":"k"', "unexpected EOF"],
      ["", '[{"key":"k', "unexpected EOF"],
      ["", "text", "invalid character 'e' in literal true (expecting 'r')"],
      ["", '[{"key":"k"},]', "invalid character ']' looking for beginning of value"],
      ["", '[{"key"}]', "invalid character '}' after object key"],
      ["", "{}", "json: cannot unmarshal object into Go value of type []state.SetRequest"],
      [
        "",
        '[{"key":"k","metadata":{"ttlInSeconds":3}}]',
        "json: cannot unmarshal number into Go struct field SetRequest.metadata of type string",
      ],
      [
        "/bulk",
        '{"keys":"k"}',
        "failed deserializing HTTP body: json: cannot unmarshal string into Go struct field BulkGetRequest.keys of type []string",
      ],
      [
        "/transaction",
        "key=1",
        "failed deserializing HTTP body: invalid character 'k' looking for beginning of value",
      ],
      ["", '[{"value":1}]', '"key" is a required field'],
      ["", '[{"key":"","value":1}]', '"key" is a required field'],
      ["/transaction", "", "failed deserializing HTTP body: EOF"],
      ["/bulk", '{"keys":[', "failed deserializing HTTP body: unexpected EOF"],
    ] as const)
      expect([body, await ask(daprd, "POST", `/v1.0/state/mystore${path}`, body)]).toEqual([
        body,
        { status: 400, errorCode: "ERR_MALFORMED_REQUEST", message },
      ]);
  });

  it("in options and times to live is an error of the store, in the words of Dapr's stores", async () => {
    await using daprd = await Daprd.start({ resources });
    const ttl = (value: string) => ({ metadata: { ttlInSeconds: value } });
    const ttlError = "incorrect value for metadata 'ttlInSeconds'";
    for (const [item, why] of [
      [ttl("abc"), `${ttlError}: strconv.ParseInt: parsing "abc": invalid syntax`],
      [ttl("1.5"), `${ttlError}: strconv.ParseInt: parsing "1.5": invalid syntax`],
      [ttl("-2"), `${ttlError}: must be -1 or greater`],
      [ttl("99999999999"), `${ttlError}: must be -1 or greater`],
      [{ options: { concurrency: "first" } }, "unrecognized concurrency model 'first'"],
      [{ options: { consistency: "weak", concurrency: "x" } }, "unrecognized consistency model 'weak'"],
    ] as const) {
      const request = { key: "k", value: 1, ...item };
      expect(await ask(daprd, "POST", "/v1.0/state/mystore", JSON.stringify([request]))).toEqual({
        status: 500,
        errorCode: "ERR_STATE_SAVE",
        message: `failed saving state in state store mystore: ${why}`,
      });
      const body = JSON.stringify({ operations: [{ operation: "upsert", request }] });
      expect(await ask(daprd, "POST", "/v1.0/state/mystore/transaction", body)).toEqual({
        status: 500,
        errorCode: "ERR_STATE_TRANSACTION",
        message: `error while executing state transaction: ${why}`,
      });
    }
    expect(await ask(daprd, "DELETE", "/v1.0/state/mystore/k?concurrency=none")).toEqual({
      status: 500,
      errorCode: "ERR_STATE_DELETE",
      message: "failed deleting state with key k: unrecognized concurrency model 'none'",
    });
    const states = [{ key: "k", metadata: { ttlInSeconds: "abc" } }];
    await expect(daprd.grpc.saveState({ storeName: "mystore", states })).rejects.toThrow(ttlError);
    expect(await ask(daprd, "GET", "/v1.0/state/mystore/k")).toEqual({ status: 204 });
    for (const value of ["-1", "0", "+7"])
      expect(
        await ask(
          daprd,
          "POST",
          "/v1.0/state/mystore",
          JSON.stringify([{ key: "k", value: 1, ...ttl(value) }]),
        ),
      ).toEqual({ status: 204 });
  });

  it("is not looked at when the store cannot be queried", async () => {
    await using daprd = await Daprd.start({ resources });
    for (const body of ["", "{", '{"filter":1}', '{"filter":{"EQ":{"a":1}}}'])
      expect(await ask(daprd, "POST", "/v1.0-alpha1/state/mystore/query", body)).toMatchObject({
        status: 500,
        errorCode: "ERR_STATE_STORE_NOT_SUPPORTED",
        message: "state store does not support querying",
      });
  });

  it("that leaves things out is taken as Dapr does", async () => {
    await using daprd = await Daprd.start({ resources });
    // What follows the first value is never read.
    for (const body of ["null1", '[{"key":"first","value":1}] and more'])
      expect([body, await ask(daprd, "POST", "/v1.0/state/mystore", body)]).toEqual([body, { status: 204 }]);
    expect(await ask(daprd, "GET", "/v1.0/state/mystore/first")).toEqual({ status: 200, answer: 1 });
    for (const body of ["[]", "null", '[{"key":"empty"}]', '[{"key":"more","extra":{"a":[]}}]'])
      expect([body, await ask(daprd, "POST", "/v1.0/state/mystore", body)]).toEqual([body, { status: 204 }]);
    expect(await ask(daprd, "GET", "/v1.0/state/mystore/empty")).toEqual({ status: 200, answer: null });
    for (const body of ["{}", '{"operations":[]}', '{"operations":null}'])
      expect(await ask(daprd, "POST", "/v1.0/state/mystore/transaction", body)).toEqual({ status: 204 });
    expect(await ask(daprd, "POST", "/v1.0/state/mystore/bulk", "{}")).toEqual({ status: 200, answer: [] });
    await daprd.grpc.saveState({ storeName: "mystore", states: [{ key: "none" }] });
    expect(await ask(daprd, "GET", "/v1.0/state/mystore/none")).toEqual({ status: 204 });
    expect(await ask(daprd, "POST", "/v1.0/state/mystore/bulk", '{"keys":["none","absent"]}')).toEqual({
      status: 200,
      answer: [{ key: "none", etag: expect.any(String) }, { key: "absent" }],
    });
  });

  it("with numbers of many digits comes back with all of them", async () => {
    await using daprd = await Daprd.start({ resources });
    const number = "12345678901234567890.10";
    await ask(daprd, "POST", "/v1.0/state/mystore", `[{"key":"n","value":{"a":[ ${number} ]}}]`);
    const body = '{"keys":["n"]}';
    const bulk = await fetch(daprd.url("/v1.0/state/mystore/bulk"), { method: "POST", body });
    expect(await bulk.text()).toMatch(`[{"key":"n","data":{"a":[${number}]},"etag":`);
  });

  it("has details that are named as in Dapr's JSON", async () => {
    await using daprd = await Daprd.start({ resources });
    const message = "input key/keyPrefix 'a||b' can't contain '||'";
    expect(await ask(daprd, "GET", "/v1.0/state/mystore/a||b")).toEqual({
      status: 400,
      errorCode: "ERR_MALFORMED_REQUEST",
      message,
      details: [
        {
          "@type": "type.googleapis.com/google.rpc.ErrorInfo",
          reason: "DAPR_STATE_ILLEGAL_KEY",
          domain: "dapr.io",
          metadata: null,
        },
        {
          "@type": "type.googleapis.com/google.rpc.ResourceInfo",
          resource_type: "state",
          resource_name: "mystore",
          owner: "",
          description: "",
        },
        {
          "@type": "type.googleapis.com/google.rpc.BadRequest",
          field_violations: [{ field: "a||b", description: message }],
        },
      ],
    });
  });

  it("in paths: slashes that are too many do no harm", async () => {
    await using daprd = await Daprd.start({ resources });
    const etag = { status: 204 };
    expect(await ask(daprd, "POST", "//v1.0//state///mystore//", '[{"key":"k","value":1}]')).toEqual(etag);
    for (const path of ["/v1.0/state/mystore/k", "/v1.0/state/mystore/k/", "//v1.0/state/mystore//k"])
      expect([path, await ask(daprd, "GET", path)]).toEqual([path, { status: 200, answer: 1 }]);
    expect(await ask(daprd, "GET", "/v1.0/metadata/")).toMatchObject({ status: 200 });
    expect(await ask(daprd, "GET", "/v1.0/healthz/")).toEqual({ status: 204 });
    expect(await ask(daprd, "GET", "/v1.0/state/mystore/")).toMatchObject({
      status: 404,
      errorCode: "ERR_DIRECT_INVOKE",
    });
    expect(await ask(daprd, "POST", "/v1.0/publish/mypub/", "1")).toMatchObject({
      status: 404,
      errorCode: "ERR_TOPIC_NAME_EMPTY",
    });
    expect(await ask(daprd, "POST", "/v1.0/publish/mypub/topic/", "1")).toEqual({ status: 204 });
  });

  it("in paths: what is served nowhere is taken for a call of an application, whatever the method", async () => {
    await using daprd = await Daprd.start({ resources });
    const nobody = {
      status: 404,
      errorCode: "ERR_DIRECT_INVOKE",
      message: "failed getting app id either from the URL path or the header dapr-app-id",
    };
    for (const [method, path] of [
      ...[["GET", "/v1.0"] as const, ["GET", "/v1.0/"] as const, ["GET", "/v1.0-alpha1/nothing"] as const],
      ...[["OPTIONS", "/v1.0/metadata"] as const, ["PROPFIND", "/v1.0/state/mystore/k"] as const],
      ...[["PATCH", "/v1.0/state/mystore"] as const, ["GET", "/v1.0/publish/mypub/t"] as const],
      ...[["POST", "/v1.0/healthz"] as const, ["DELETE", "/v1.0/publish/mypub/t"] as const],
    ])
      expect([method, path, await ask(daprd, method, path)]).toEqual([method, path, nobody]);
    expect(await ask(daprd, "HEAD", "/v1.0/metadata")).toEqual({ status: 404 });
    expect(await ask(daprd, "OPTIONS", "/v1.0/invoke/other/method/m")).toMatchObject({ status: 500 });
  });

  it("in paths: what is no percent-encoded UTF-8 is malformed", async () => {
    await using daprd = await Daprd.start({ resources });
    for (const key of ["%zz", "%FF", "a%", "%C3", "k%F0%9F%98", "é%e9"])
      for (const method of ["GET", "DELETE"])
        expect([key, await ask(daprd, method, `/v1.0/state/mystore/${key}`)]).toMatchObject([
          key,
          { status: 400, errorCode: "ERR_MALFORMED_REQUEST" },
        ]);
    expect(await ask(daprd, "POST", "/v1.0/publish/mypub/%zz", "1")).toMatchObject({ status: 400 });
    expect(await ask(daprd, "GET", "/v1.0/state/mystore/%F0%9F%98%80")).toEqual({ status: 204 });
  });

  it("in bodies of events is a value of its own", async () => {
    await using daprd = await Daprd.start({ resources });
    for (const contentType of [
      "",
      "application/json",
      "application/cloudevents+json",
      "a/b; c=d",
      "nonsense",
    ]) {
      const status = await daprd.publish("t", "{", contentType === "" ? {} : { "content-type": contentType });
      expect([contentType, status]).toEqual([
        contentType,
        contentType === "application/cloudevents+json" ? 500 : 204,
      ]);
    }
    const entry = "http.bulkPublishMessageEntry";
    for (const [body, why] of [
      ["", "EOF"],
      ["{", "unexpected EOF"],
      ["{}", `json: cannot unmarshal object into Go value of type []${entry}`],
      ["1", `json: cannot unmarshal number into Go value of type []${entry}`],
      ["[1]", `json: cannot unmarshal number into Go value of type ${entry}`],
    ])
      expect([body, await ask(daprd, "POST", "/v1.0/publish/bulk/mypub/t", body)]).toMatchObject([
        body,
        {
          status: 400,
          errorCode: "ERR_PUBSUB_EVENTS_SER",
          message: `error when unmarshaling the request for topic t pubsub mypub: ${why}`,
        },
      ]);
  });

  it("is an event of a bulk publish that is not what its content type says", async () => {
    await using daprd = await Daprd.start({ resources });
    const publish = (event: unknown, contentType?: string) => {
      const body = JSON.stringify([{ entryId: "1", event, contentType }]);
      return ask(daprd, "POST", "/v1.0/publish/bulk/mypub/t", body);
    };
    for (const [event, contentType] of [
      ...[["x", "text/plain; charset=utf-8"] as const, ["<a/>", "application/xml"] as const],
      ...[["eA==", "application/octet-stream"] as const, [{ a: 1 }, "application/json"] as const],
    ])
      expect([contentType, await publish(event, contentType)]).toEqual([contentType, { status: 204 }]);
    const mismatch = "error: mismatch between contentType and event";
    for (const [event, contentType, why] of [
      ...[[{ a: 1 }, "text/plain", mismatch] as const, [1, "application/octet-stream", mismatch] as const],
      ...[["x", undefined, mismatch] as const, ["x", "image/png", mismatch] as const],
      [
        "eA",
        "application/octet-stream",
        "error: unable to decode base64 application/octect-stream data",
      ] as const,
    ])
      expect([event, await publish(event, contentType)]).toMatchObject([
        event,
        {
          status: 400,
          errorCode: "ERR_PUBSUB_EVENTS_SER",
          message: `error when marshalling cloud event envelope for topic t pubsub mypub: ${why}`,
          details: [{ reason: "DAPR_PUBSUB_MARSHAL_ENVELOPE" }, {}],
        },
      ]);
  });
});
