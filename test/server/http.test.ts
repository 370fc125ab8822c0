/** What curl and load balancers see of the HTTP port. */
import { connect } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import type { Listening } from "../../src/server/listening.ts";
import { mountsOf, Scene, startServer } from "./service.ts";

let ready = true;
let server: Listening;
let base: string;
beforeAll(async () => {
  server = await startServer("http", mountsOf(new Scene()), { ready: () => ready });
  base = `http://127.0.0.1:${server.port}`;
});
afterAll(() => server.close(0));

const post = (method: string, body: string, headers: Record<string, string> = {}) =>
  fetch(`${base}/outrider.state.v1.StateService/${method}`, {
    method: "POST",
    body,
    headers: { "content-type": "application/json", ...headers },
  });

/** Sends bytes as they are, and returns what comes until the server closes. */
function raw(text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(server.port, "127.0.0.1", () => socket.write(text));
    let got = "";
    socket.on("data", (chunk) => {
      got += chunk.toString("latin1");
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(got));
  });
}

describe("curl", () => {
  it("calls a method with JSON", async () => {
    const response = await post("Get", '{"key":"headers"}', { "x-asked": "yes" });
    expect([response.status, response.headers.get("x-served")]).toEqual([200, "yes"]);
    expect(await response.json()).toMatchObject({ item: { key: "headers" } });
  });

  it("reads what went wrong", async () => {
    const response = await post("Get", '{"key":"fault"}');
    expect(response.status).toBe(404);
    const info = { reason: "COMPONENT_NOT_FOUND", domain: "outrider.dev", metadata: { name: "fault" } };
    const bytes = toBinary(ErrorInfoSchema, create(ErrorInfoSchema, info));
    // As text: the order of the members stays, too.
    expect(await response.text()).toBe(
      JSON.stringify({
        code: "not_found",
        message: "no component ü",
        details: [
          {
            type: "google.rpc.ErrorInfo",
            debug: info,
            value: Buffer.from(bytes).toString("base64").replace(/=+$/, ""),
          },
        ],
      }),
    );
  });

  it.each([
    ["JSON that breaks off", '{"key":', /JSON/],
    ["a field of the wrong type", '{"key":7}', /key/],
    ["bytes that are no base64", '{"value":"\u00e9"}', /base64|value/],
    ["no object", "[]", /SetRequest from JSON/],
  ])("is told what is wrong with %s", async (_, body, what) => {
    const response = await post("Set", body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      code: "invalid_argument",
      message: expect.stringMatching(what),
    });
  });

  it("is told that its protobuf is none, with the code that gRPC has for it", async () => {
    const response = await fetch(`${base}/outrider.state.v1.StateService/Get`, {
      method: "POST",
      body: Buffer.from([0xff]),
      headers: { "content-type": "application/proto" },
    });
    expect(await response.json()).toMatchObject({ code: "internal", message: "parse binary: premature EOF" });
  });

  it("is refused other methods and content types", async () => {
    const path = `${base}/outrider.state.v1.StateService/Set`;
    expect((await fetch(path)).status).toBe(405);
    expect((await post("Set", "{}", { "content-type": "text/plain" })).status).toBe(415);
  });

  it("gets a short error for a path that nobody serves", async () => {
    const response = await fetch(`${base}/outrider.state.v1.StateService/Gone`);
    expect([response.status, await response.json()]).toEqual([
      404,
      { code: "not_found", message: "nothing is served at this path" },
    ]);
  });
});

describe("health", () => {
  it("is 204 while the sidecar lives, whether it is ready or not", async () => {
    ready = false;
    expect((await fetch(`${base}/healthz`)).status).toBe(204);
  });

  it("is 503 until the sidecar is ready, and 204 from then on", async () => {
    ready = false;
    expect((await fetch(`${base}/healthz/ready`)).status).toBe(503);
    ready = true;
    expect((await fetch(`${base}/healthz/ready?appid=x`)).status).toBe(204);
  });

  it("is only to be read", async () => {
    expect((await fetch(`${base}/healthz`, { method: "POST" })).status).toBe(405);
  });
});

it("lets no other site's pages call it", async () => {
  const headers = { origin: "https://elsewhere.example", "access-control-request-method": "POST" };
  const path = `${base}/outrider.state.v1.StateService/Get`;
  const preflight = await fetch(path, { method: "OPTIONS", headers });
  const call = await post("Get", "{}", { origin: headers.origin });
  for (const response of [preflight, call]) {
    expect([...response.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
  }
  expect(preflight.status).toBe(405);
});

describe("a connection", () => {
  const closing = "connection: close\r\n\r\n";

  it("may begin byte by byte", async () => {
    const socket = connect(server.port, "127.0.0.1");
    let got = "";
    socket.on("data", (chunk) => {
      got += chunk.toString();
    });
    for (const byte of `GET /healthz HTTP/1.1\r\nhost: h\r\n${closing}`) {
      await new Promise((resolve) => socket.write(byte, resolve));
    }
    await expect.poll(() => got).toMatch(/^HTTP\/1.1 204 /);
  });

  it("is not taken for HTTP/2 because it begins with a P", async () => {
    expect(await raw(`PUT /healthz HTTP/1.1\r\nhost: h\r\n${closing}`)).toMatch(/^HTTP\/1.1 405 /);
  });

  it("that speaks neither HTTP/1.1 nor HTTP/2 is closed", async () => {
    expect(await raw("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")).toMatch(/^HTTP\/1.1 400 |^$/);
    expect(await raw("PRI * HTTP/9\r\n\r\nSM\r\n\r\n........................")).not.toContain("200");
  });

  it("without a host, or with one that is none, gets an answer", async () => {
    const head = "POST /outrider.state.v1.StateService/Get HTTP/1.1\r\ncontent-type: application/json\r\n";
    expect(await raw(`${head}host: a b\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}`)).toMatch(
      / 400 /,
    );
    expect(await raw(`${head.replace("1.1", "1.0")}content-length: 2\r\n\r\n{}`)).toMatch(/ (400|505) /);
  });
});
