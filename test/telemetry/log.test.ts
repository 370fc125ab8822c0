import { describe, expect, it } from "vitest";
import { fault } from "../../src/faults.ts";
import { createLog, type LogOptions, logTrace } from "../../src/telemetry/log.ts";
import { noTrace } from "../../src/telemetry/tracing.ts";

const base = { app_id: "orders", instance: "i1" };

function logOf(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const log = createLog({
    level: "info",
    format: "json",
    destination: { write: (line) => lines.push(line) },
    secrets: () => new Set(),
    base,
    ...options,
  });
  return { log, lines, last: () => JSON.parse(lines.at(-1)!) as Record<string, unknown> };
}

describe("the log", () => {
  it("is an object a line, with the fields that the documentation promises", () => {
    const { log, lines, last } = logOf();
    log.child({ scope: "runtime" }).info({ port: 50001 }, "listening");
    expect(lines[0]?.endsWith("}\n")).toBe(true);
    expect(last()).toEqual({
      level: "info",
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      ...base,
      scope: "runtime",
      port: 50001,
      msg: "listening",
    });
  });

  it("leaves out what is below its level", () => {
    const { log, lines } = logOf({ level: "warn" });
    log.debug("no");
    log.info("no");
    log.warn("yes");
    log.error("yes");
    log.fatal("yes");
    expect(lines.map((line) => JSON.parse(line).level)).toEqual(["warn", "error", "fatal"]);
  });

  it("ties a line to its trace", () => {
    const { log, last } = logOf();
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    log.child(logTrace({ ...noTrace, traceparent })).info("x");
    expect(last()).toMatchObject({
      trace_id: "0af7651916cd43dd8448eb211c80319c",
      span_id: "b7ad6b7169203331",
    });
    expect(logTrace(noTrace)).toEqual({});
    expect(logTrace({ ...noTrace, traceparent: "junk" })).toEqual({});
  });

  it("is readable text when asked for, without colours unless asked for", () => {
    const { log, lines } = logOf({ format: "pretty" });
    log.info({ topic: "orders" }, "listening");
    expect(lines.join("")).toMatch(/INFO.*: listening\n\s+topic: "orders"/);
    expect(lines.join("")).not.toContain("\u001b");
    const colored = logOf({ format: "pretty", color: true });
    colored.log.info("listening");
    expect(colored.lines.join("")).toContain("\u001b[");
  });
});

describe("secrets", () => {
  const secret = 'hunter2 "x"\n\\end/ä';
  const secrets = () => new Set(["hunter2", secret, "p@ss w/rd", "abc"]);

  it.each(["json", "pretty"] as const)("never get into a line by their value (%s)", async (format) => {
    const { log, lines } = logOf({ secrets, format });
    log.info(`could not log in with ${secret}`);
    log.info({ nested: { list: [`x${secret}x`, "?key=p%40ss%20w%2Frd"] } }, "fields");
    log.info({ body: JSON.stringify({ login: secret }) }, "JSON in a string");
    log.error({ err: new Error(secret, { cause: new Error(`because ${secret}`) }) }, "errors");
    log.child({ url: `https://host/${secret}` }).warn("bindings");
    expect(lines.length).toBe(5);
    for (const line of lines) {
      expect(line).toContain("[redacted]");
      expect(line).not.toContain("hunter2");
      expect(line).not.toContain("end/");
      expect(line).not.toContain("p%40ss");
    }
  });

  it("are known from when they are resolved, not only from the start", () => {
    const resolved = new Set<string>();
    const { log, last } = logOf({ secrets: () => resolved });
    resolved.add("late-secret");
    log.info("late-secret");
    expect(last()["msg"]).toBe("[redacted]");
  });

  it("leave lines readable when a secret is too short to be one", () => {
    const { log, last } = logOf({ secrets });
    log.info("abcd");
    expect(last()["msg"]).toBe("abcd");
  });

  it.each([
    "password",
    "redisPassword",
    "token",
    "dapr-api-token",
    "secret",
    "clientSecret",
    "connectionString",
    "connection_string",
    "authorization",
    "api-key",
    "accessKey",
    "sharedAccessKey",
    "privateKey",
    "cookie",
  ])("are not shown in a field called %s, at any depth", async (name) => {
    const { log, lines } = logOf();
    log
      .child({ [name]: "v-a-l-u-e" })
      .info({ [name]: "v-a-l-u-e", deep: [{ [name]: { x: "v-a-l-u-e" } }] }, "x");
    expect(lines[0]).not.toContain("v-a-l-u-e");
  });

  it("do not hide fields that only sound alike", () => {
    const { log, last } = logOf();
    const fields = { key: "order-1", topic: "passengers", partition: 3, keys: ["a"], group: "g" };
    log.info(fields, "delivered");
    expect(last()).toMatchObject(fields);
  });

  it.each([
    ["redis://user:s3cr3t@host:6379", "redis://user:[redacted]@host:6379"],
    ["Authorization: Bearer s3cr3t-token", "Authorization: Bearer [redacted]"],
    ["host=db password=s3cr3t sslmode=off", "host=db password=[redacted] sslmode=off"],
    ["Endpoint=sb://x;SharedAccessKey=s3cr3t;Y=1", "Endpoint=sb://x;SharedAccessKey=[redacted];Y=1"],
  ])("that nobody resolved are recognised in text: %s", async (text, shown) => {
    const { log, last } = logOf();
    log.info(text);
    expect(last()["msg"]).toBe(shown);
  });
});

describe("an error in the log", () => {
  it("shows type, message, code, stack and causes, and none of its library's other properties", () => {
    const { log, last, lines } = logOf();
    const root = Object.assign(new TypeError("refused"), {
      code: "ECONNREFUSED",
      config: { user: "s3cr3t-user" },
    });
    log.error({ err: new Error("could not open", { cause: root }) }, "component failed");
    expect(last()["err"]).toMatchObject({
      type: "Error",
      message: "could not open",
      stack: expect.stringContaining("log.test.ts"),
      cause: { type: "TypeError", message: "refused", code: "ECONNREFUSED" },
    });
    expect(lines[0]).not.toContain("s3cr3t-user");
  });

  it("is the same in any field, and of any kind that may be thrown", () => {
    const { log, last } = logOf();
    const many = new AggregateError([new Error("one"), "two"], "several");
    log.error({ detail: { reason: many }, err: "a string" }, "x");
    expect(last()).toMatchObject({
      detail: { reason: { type: "AggregateError", errors: [{ message: "one" }, "two"] } },
      err: "a string",
    });
    log.error({ err: fault("COMPONENT_FAILED", "sorry", { cause: new Error("why") }) }, "x");
    expect(last()["err"]).toMatchObject({ type: "ConnectError", cause: { message: "why" } });
  });

  it("ends when its causes go in a circle", () => {
    const { log, lines } = logOf();
    const error = new Error("round");
    error.cause = error;
    log.error({ err: error }, "x");
    expect(lines.length).toBe(1);
  });

  it("does not end the process when a field refers to itself", () => {
    const { log, lines } = logOf();
    const circle: Record<string, unknown> = { password: "x" };
    circle["self"] = circle;
    log.info({ circle, big: 1n }, "x");
    expect(lines.length).toBe(1);
  });
});
