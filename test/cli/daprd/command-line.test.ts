import { describe, expect, it } from "vitest";
import { FlagError, readCommandLine } from "../../../src/cli/daprd/command-line.ts";
import { readFlags } from "../../../src/cli/daprd/flags.ts";
import { missedFlags } from "../../../src/cli/daprd/unused-flags.ts";

const flagsOf = (words: readonly string[], env = {}) => readFlags(readCommandLine(words), env);

describe("daprd's command line", () => {
  it("has one dash or two, and values after = or a blank", () => {
    const line = readCommandLine(["--app-id=a", "-dapr-http-port", "3501", "--log-level", "debug"]);
    expect([line.text("app-id"), line.port("dapr-http-port"), line.text("log-level")]).toEqual([
      "a",
      3501,
      "debug",
    ]);
  });

  it("has booleans alone or with a value, but never with the next word", () => {
    const line = readCommandLine(["--enable-mtls", "false", "-enable-profiling=F", "--log-as-json=1"]);
    expect(line.flag("enable-mtls", false)).toBe(true);
    expect(line.flag("enable-profiling", true)).toBe(false);
    expect(line.flag("log-as-json", false)).toBe(true);
    expect(line.flag("wait", true)).toBe(true);
    expect(() => readCommandLine(["--enable-mtls=maybe"]).flag("enable-mtls", false)).toThrow(FlagError);
  });

  it("takes the last of a flag that is given twice, and all of a list", () => {
    const line = readCommandLine(["--app-id=a", "--config=1", "--app-id=b", "--config=2,3"]);
    expect(line.text("app-id")).toBe("b");
    expect(line.list("config")).toEqual(["1", "2", "3"]);
  });

  it("passes over what it does not know, with what looks like its value", () => {
    const line = readCommandLine(["--new=1", "-newer", "2", "--newest", "--app-id=a", "word"]);
    expect(line.unknown).toEqual(["--new", "-newer", "--newest"]);
    expect(line.text("app-id")).toBe("a");
  });

  it("is refused for values that make no sense", () => {
    expect(() => flagsOf(["--dapr-http-port=x"])).toThrow(
      'invalid argument "x" for "--dapr-http-port" flag: expected a whole number',
    );
    expect(() => flagsOf(["--dapr-http-port=65536"])).toThrow("expected a port");
    expect(() => flagsOf(["--app-protocol=gprc"])).toThrow("expected one of http, https, h2c, grpc, grpcs");
    expect(() => flagsOf(["--max-body-size=much"])).toThrow("expected a size such as 4Mi");
    expect(() => flagsOf(["--app-id"])).toThrow("needs a value");
  });

  it("warns of what somebody asked for and does not get, and of nothing else", () => {
    const usual = [
      "--mode=standalone",
      "--enable-mtls=false",
      "--placement-host-address=x",
      "--profile-port=1",
    ];
    expect(missedFlags(readCommandLine(usual))).toEqual([]);
    const asking = ["--mode", "kubernetes", "--enable-mtls", "--unix-domain-socket=/tmp"];
    expect(missedFlags(readCommandLine(asking)).map(({ flag }) => flag)).toEqual([
      "--enable-mtls=true",
      "--mode=kubernetes",
      "--unix-domain-socket=/tmp",
    ]);
  });

  it("has daprd's defaults", () => {
    expect(flagsOf([])).toMatchObject({
      httpPort: 3500,
      grpcPort: 50001,
      listenAddresses: [""],
      metrics: { address: "0.0.0.0", port: 9090 },
      publicHttp: undefined,
      maxBodyBytes: 4 * 1024 * 1024,
      maxHeaderBytes: 4096,
      allowedOrigins: undefined,
      graceMs: 5000,
      logLevel: "info",
    });
  });

  it("means what daprd means, by older names too", () => {
    const words = [
      "--dapr-http-max-request-size=8",
      "--dapr-listen-addresses=[::1],127.0.0.1",
      "--allowed-origins=",
    ];
    expect(flagsOf(words, { DAPR_GRPC_MAX_CONN_IDLE: "1m" })).toMatchObject({
      maxBodyBytes: 8 * 1024 * 1024,
      listenAddresses: ["::1", "127.0.0.1"],
      allowedOrigins: [],
      maxConnectionIdleMs: 60_000,
    });
  });
});
