/** API tokens, over every protocol. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { healthMount } from "../../src/server/health.ts";
import { Readiness } from "../../src/server/readiness.ts";
import { mountsOf, protocols, Scene, type Stage, setStage } from "./service.ts";

describe.each(protocols)("$name", (protocol) => {
  const scene = new Scene();
  let stage: Stage;
  beforeAll(async () => {
    const mounts = mountsOf(scene);
    const readiness = new Readiness();
    readiness.set(true);
    const all = [...mounts, healthMount(readiness, mounts)];
    stage = await setStage(protocol, all, { apiTokens: ["first-token", "", "second-token"] });
  });
  afterAll(() => stage.server.close(0));

  const get = (headers: Record<string, string>) =>
    stage.state.get({ key: "k" }, { headers }).then(
      () => "ok",
      (error: unknown) => ConnectError.from(error),
    );

  it.each(["outrider-api-token", "dapr-api-token"])("takes each of the tokens in %s", async (header) => {
    expect(await get({ [header]: "first-token" })).toBe("ok");
    expect(await get({ [header]: "second-token" })).toBe("ok");
  });

  it.each([
    ["no token", {}],
    ["an empty token", { "outrider-api-token": "" }],
    ["a wrong token", { "outrider-api-token": "first-tokem" }],
    ["the beginning of a token", { "dapr-api-token": "first" }],
    ["two tokens in one", { "dapr-api-token": "first-token, second-token" }],
  ])("refuses a call with %s, and does not begin it", async (_, headers) => {
    scene.begun.clear();
    const error = await get(headers as Record<string, string>);
    expect(error).toMatchObject({ code: Code.Unauthenticated });
    expect((error as ConnectError).findDetails(ErrorInfoSchema)[0]?.reason).toBe("UNAUTHENTICATED");
    expect((error as ConnectError).message).not.toContain("first-token");
    expect(scene.begun.size).toBe(0);
  });

  it("refuses streams too", async () => {
    const messages = stage.state.watch({})[Symbol.asyncIterator]();
    await expect(messages.next()).rejects.toMatchObject({ code: Code.Unauthenticated });
  });

  it("tells its health to everyone", async () => {
    const health = createClient(Health, protocol.transport(stage.baseUrl));
    expect((await health.check({})).status).toBe(Status.SERVING);
  });
});
