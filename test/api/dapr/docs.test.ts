/** The pages about Dapr's API say what there is, all of it, and nothing else. */
import { readdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, it } from "vitest";
import {
  AppCallback,
  AppCallbackAlpha,
  AppCallbackHealthCheck,
} from "../../../gen/dapr/proto/runtime/v1/appcallback_pb.ts";
import { Dapr } from "../../../gen/dapr/proto/runtime/v1/dapr_pb.ts";
import { absentRoutes } from "../../../src/api/dapr/absent/answers.ts";
import { absentBlocks } from "../../../src/api/dapr/absent/blocks.ts";
import type { DaprApi } from "../../../src/api/dapr/calls.ts";
import { servedRoutes } from "../../../src/api/dapr/http/routes.ts";
import { healthAndMetadataRoutes } from "../../../src/api/dapr/http/sidecar.ts";
import { makeAssembly } from "../../../src/assembly.ts";
import { flagNames } from "../../../src/cli/daprd/command-line.ts";
import { unusedFlags } from "../../../src/cli/daprd/unused-flags.ts";
import { loaded } from "../../../src/component.ts";
import { configurationSpec } from "../../../src/config/kinds/configuration.ts";
import { middlewareTypes } from "../../../src/config/middlewares.ts";
import { kinds } from "../../../src/config/resource.ts";
import { secretStoreTypes } from "../../../src/config/secret-store-types.ts";
import { errorOf } from "./cases/grpc-errors.ts";
import { Daprd, inMemory } from "./daprd.ts";

const root = resolve(import.meta.dirname, "../../..");

/** The rows of the table below a heading: the names in each cell, and the text of the row. */
async function rowsOf(page: string, heading: string) {
  const text = await readFile(join(root, "docs/dapr", `${page}.md`), "utf8");
  const section = text.split(/^## /m).find((each) => each.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`docs/dapr/${page}.md has no "${heading}"`);
  const rows = section.split("\n").filter((line) => /^\| [^-]/.test(line));
  return rows.slice(1).map((line) => {
    const cells = line.split(/(?<!\\)\|/).slice(1, -1);
    const names = cells.map((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name!));
    return { line, names };
  });
}

async function namesOf(page: string, heading: string, column = 0): Promise<string[]> {
  return (await rowsOf(page, heading)).flatMap(({ names }) => names[column]!);
}

const sorted = (names: Iterable<string>) => [...names].sort();

/** `POST, PUT /a` as `POST /a` and `PUT /a`. */
function endpoints(names: readonly string[]): string[] {
  return names.flatMap((name) => {
    const [methods, path] = name.split(/ (?=\/)/) as [string, string];
    return methods.split(", ").map((method) => `${method} ${path}`);
  });
}

describe("the page of RPCs", () => {
  const absent = absentBlocks.flatMap(({ rpcs }) => rpcs);

  it("has every RPC of the service, in the table where it belongs", async () => {
    const all = Dapr.methods.map(({ name }) => name);
    expect(sorted(await namesOf("rpcs", "Served"))).toEqual(
      sorted(all.filter((rpc) => !absent.includes(rpc))),
    );
    expect(sorted(await namesOf("rpcs", "Refused", 1))).toEqual(sorted(absent));
  });

  it("says what refused RPCs answer", async () => {
    const rows = await rowsOf("rpcs", "Refused");
    const told = rows.map(({ names }) => ({ rpcs: names[1], code: names[2]![0], message: names[2]![1] }));
    const given = absentBlocks.map(({ rpcs, error, message }) => ({
      rpcs,
      code: Code[error.code].replace(/(?<!^)[A-Z]/g, "_$&").toUpperCase(),
      message: message.replaceAll("{}", "NAME"),
    }));
    expect(told).toEqual(given);
  });

  it("has the RPCs that applications may have", async () => {
    const rows = await rowsOf("rpcs", "Called in applications that listen for gRPC");
    const told = rows.flatMap(({ names: [service, rpcs] }) => rpcs!.map((rpc) => `${service![0]}/${rpc}`));
    const given = [AppCallback, AppCallbackAlpha, AppCallbackHealthCheck].flatMap(({ name, methods }) =>
      methods.map((method) => `${name}/${method.name}`),
    );
    expect(sorted(told)).toEqual(sorted(given));
  });

  it("names as served what does something", async () => {
    await using daprd = await Daprd.start({ resources: inMemory() });
    const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${daprd.grpcPort}` });
    const client = createClient(Dapr, transport) as unknown as Record<string, (input: object) => unknown>;
    const served = (await namesOf("rpcs", "Served")).filter((rpc) => rpc !== "Shutdown");
    for (const rpc of [...served, "Shutdown"]) {
      const { localName, methodKind } = Dapr.methods.find(({ name }) => name === rpc)!;
      if (methodKind !== "unary") continue;
      const answered = (client[localName]!({}) as Promise<unknown>).then(() => "answered");
      const answer = await answered.catch(() => errorOf(client[localName]!({}) as Promise<unknown>));
      expect({ rpc, answer }).not.toMatchObject({ answer: { code: "Unimplemented" } });
    }
    expect(await daprd.exitCode()).toBe(0);
  });
});

describe("the page of paths", () => {
  const health = { appId: "", ready: () => true, outboundReady: () => true };
  // Routes are made of what their handlers call, which nobody does here.
  const api = { state: {}, publish: {}, secrets: {}, metadata: {}, shutdown() {} } as unknown as DaprApi;
  const routed = (routes: readonly { method: string; path: string }[]) =>
    sorted(routes.map(({ method, path }) => `${method} ${path}`));
  const refused = absentRoutes({ appId: "", namespace: "" });

  it("has every route, in the table where it belongs", async () => {
    const served = [...healthAndMetadataRoutes(api.metadata, health), ...servedRoutes(api)];
    expect(sorted(endpoints(await namesOf("http", "Served")))).toEqual(routed(served));
    expect(sorted(endpoints(await namesOf("http", "Refused", 1)))).toEqual(routed(refused));
  });

  it("says what each path answers", async () => {
    const resources = inMemory();
    await using daprd = await Daprd.start({ resources });
    const ask = async (endpoint: string) => {
      const [method, path] = endpoint.split(" ") as [string, string];
      const url = daprd.url(path.replace("*", "a/b").replaceAll(/:\w+/g, "NAME"));
      const answer = await fetch(url, { method: method === "ANY" ? "PROPFIND" : method });
      return { status: answer.status, text: await answer.text() };
    };
    for (const { names } of await rowsOf("http", "Refused")) {
      for (const endpoint of endpoints(names[1]!)) {
        const [errorCode, message] = names[2] as [string, string];
        expect({ endpoint, ...JSON.parse((await ask(endpoint)).text) }).toMatchObject({ errorCode, message });
      }
    }
    for (const { line, names } of await rowsOf("http", "Refused")) {
      const { status } = await ask(endpoints(names[1]!)[0]!);
      expect(line).toMatch(new RegExp(`\\| ${status} \`${names[2]![0]}\``));
    }
    const served = endpoints(await namesOf("http", "Served"));
    for (const endpoint of served.filter((each) => each !== "POST /v1.0/shutdown"))
      expect(`${endpoint}: ${(await ask(endpoint)).text}`).not.toContain("ERR_DIRECT_INVOKE");
  });
});

describe("the page of the process", () => {
  it("has every flag, in the table where it belongs", async () => {
    const used = await namesOf("process", "Flags with an effect");
    const unused = await namesOf("process", "Flags that are taken and change nothing");
    const dashed = (names: readonly string[]) => sorted(names.map((name) => `--${name}`));
    expect(sorted(unused)).toEqual(dashed(Object.keys(unusedFlags)));
    expect(sorted([...used, ...unused])).toEqual(dashed(flagNames));
  });

  it("says why a flag changes nothing as the warnings do", async () => {
    for (const { line, names } of await rowsOf("process", "Flags that are taken and change nothing")) {
      for (const flag of names[0]!)
        expect(line).toContain(unusedFlags[flag.slice(2) as keyof typeof unusedFlags]);
    }
  });

  it("has every variable that the sources of a sidecar read, and names no other as read", async () => {
    const read = new Set<string>();
    for (const folder of ["src/cli", "src/config", "src/components"]) {
      for (const entry of await readdir(join(root, folder), { recursive: true })) {
        if (!entry.endsWith(".ts")) continue;
        const text = await readFile(join(root, folder, entry), "utf8");
        for (const [, name] of text.matchAll(/\b(?:env|environment)\["([A-Z_]+)"\]/g)) read.add(name!);
      }
    }
    // Of terminals, and of what a sidecar tells its application.
    const others = /^(TERM|NO_COLOR|npm_.*|(DAPR|OUTRIDER)_GRPC_(PORT|ENDPOINT))$/;
    const rows = await rowsOf("process", "Environment");
    const told = rows.filter(({ line }) => !line.includes("no effect")).flatMap(({ names }) => names[0]!);
    expect(sorted(told)).toEqual(sorted([...read].filter((name) => !others.test(name))));
  });
});

describe("the page of YAML", () => {
  it("has every kind, and its versions", async () => {
    const rows = await rowsOf("yaml", "Kinds");
    const told = Object.fromEntries(rows.map(({ names: [kind, versions] }) => [kind![0], versions]));
    expect(told).toEqual(kinds);
  });

  it("has every field of a Configuration", async () => {
    const told = await namesOf("yaml", "Fields of a Configuration");
    expect(sorted(told)).toEqual(sorted(Object.keys(configurationSpec.shape)));
  });

  it("has every type of component, and its versions", async () => {
    const rows = await rowsOf("yaml", "Component types");
    const told = rows.flatMap(({ names: [types, versions] }) => types!.map((type) => [type, versions]));
    const components = await Promise.all(makeAssembly().components.map(loaded));
    const given = [
      ...components.map(({ type, versions }) => [type, versions]),
      ...Object.keys({ ...middlewareTypes, ...secretStoreTypes }).map((type) => [type, ["v1"]]),
    ];
    expect(Object.fromEntries(told)).toEqual(Object.fromEntries(given));
  });
});
