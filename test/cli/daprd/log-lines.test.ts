import { hostname } from "node:os";
import { describe, expect, it } from "vitest";
import { daprdLines } from "../../../src/cli/daprd/log-lines.ts";
import { version } from "../../../src/version.ts";

/** What becomes of a line of the log. */
function linesOf(asJson: boolean, line: object): string {
  const written: string[] = [];
  daprdLines(asJson, { write: (text) => void written.push(text) }).write(`${JSON.stringify(line)}\n`);
  return written.join("");
}

describe("a log line of outriderd", () => {
  const line = {
    level: "warn",
    time: "2026-01-01T00:00:00.000Z",
    app_id: "a b",
    instance: "x",
    n: 1,
    msg: "it is",
  };
  const rest = `instance=${hostname()} n=1 scope=dapr.runtime type=log ver=${version}`;

  it("is daprd's text: time, level and sentence first, the other fields by name", () => {
    expect(linesOf(false, line)).toBe(
      `time="2026-01-01T00:00:00.000Z" level=warning msg="it is" app_id="a b" ${rest}\n`,
    );
  });

  it("is one line, whatever is in it", () => {
    const text = linesOf(false, { level: "info", time: "1", msg: 'a "b"\nc', scope: "api", list: [1] });
    expect(text).toMatch(/^time=1 level=info msg="a \\"b\\"\\nc" instance=\S+ list="\[1\]" scope=api /);
    expect(text.match(/\n/g)).toHaveLength(1);
  });

  it("has daprd's fields as JSON, too", () => {
    expect(JSON.parse(linesOf(true, line))).toEqual({
      ...{ app_id: "a b", instance: hostname(), level: "warning", msg: "it is", n: 1 },
      ...{ scope: "dapr.runtime", time: line.time, type: "log", ver: version },
    });
  });

  it("about a call has daprd's sentence and names", () => {
    const call = { level: "info", time: "1", msg: "call", scope: "api", duration_ms: 2.5 };
    const common = { duration: 2, instance: hostname(), level: "info", time: "1", type: "log", ver: version };
    expect(JSON.parse(linesOf(true, { ...call, http: "GET /v1.0/healthz", status: 204 }))).toEqual({
      ...common,
      ...{ msg: "HTTP API Called", scope: "dapr.runtime.http-info", method: "GET /v1.0/healthz", code: 204 },
    });
    const rpc = "dapr.proto.runtime.v1.Dapr/GetState";
    expect(JSON.parse(linesOf(true, { ...call, rpc, code: "OK" }))).toEqual({
      ...common,
      ...{ msg: "gRPC API Called", scope: "dapr.runtime.grpc.api-info", method: `/${rpc}`, code: "OK" },
    });
  });

  it("says what an error and its causes say, without their stacks", () => {
    const err = { type: "Error", message: "no", stack: "at x", cause: { type: "Error", message: "why" } };
    expect(linesOf(false, { level: "error", time: "1", msg: "m", err })).toContain(' error="no: why" ');
  });
});
