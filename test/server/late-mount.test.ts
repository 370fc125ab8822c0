/** Services that are loaded when they are called first. */
import { Code, type ConnectError } from "@connectrpc/connect";
import { afterEach, describe, expect, it } from "vitest";
import { type LateMount, type Mount, serviceName } from "../../src/server/mount.ts";
import { quietTelemetry } from "../telemetry/quiet-telemetry.ts";
import { mountsOf, protocols, Scene, type Stage, setStage } from "./service.ts";

/** The same mounts, loaded late, and what holds the loading up. */
class Late {
  readonly mounts: readonly LateMount[];
  readonly loads: string[] = [];
  failures = 0;
  gate: Promise<void> = Promise.resolve();

  constructor(mounts: readonly Mount[]) {
    this.mounts = mounts.map((mounted) => ({
      typeName: serviceName(mounted),
      methodNames: mounted.service.methods.map(({ name }) => name),
      load: async () => {
        this.loads.push(serviceName(mounted));
        await this.gate;
        if (this.failures-- > 0) throw new Error("a file is gone");
        return mounted;
      },
    }));
  }
}

describe.each(protocols)("$name", (protocol) => {
  let stage: Stage;
  afterEach(() => stage.server.close(0));

  it("loads a service when it is called, and no other", async () => {
    const late = new Late(mountsOf(new Scene()));
    stage = await setStage(protocol, late.mounts);
    expect(late.loads).toEqual([]);
    await stage.state.get({ key: "size:3" });
    await stage.state.get({ key: "size:3" });
    expect(late.loads).toEqual(["outrider.state.v1.StateService"]);
  });

  it("serves every call that comes while the service is being loaded", async () => {
    const late = new Late(mountsOf(new Scene()));
    const gate = Promise.withResolvers<void>();
    late.gate = gate.promise;
    stage = await setStage(protocol, late.mounts);
    const calls = [1, 2, 3].map((size) => stage.state.get({ key: `size:${size}` }));
    await expect.poll(() => late.loads.length).toBe(3);
    gate.resolve();
    const answers = await Promise.all(calls);
    expect(answers.map(({ item }) => item?.value.length)).toEqual([1, 2, 3]);
  });

  it("does not begin a call whose client has left while the service was being loaded", async () => {
    const scene = new Scene();
    const late = new Late(mountsOf(scene));
    const gate = Promise.withResolvers<void>();
    late.gate = gate.promise;
    stage = await setStage(protocol, late.mounts);
    const leaving = new AbortController();
    const left = stage.state.get({ key: "left" }, { signal: leaving.signal });
    await expect.poll(() => late.loads.length).toBe(1);
    leaving.abort();
    await expect(left).rejects.toMatchObject({ code: Code.Canceled });
    const stays = stage.state.get({ key: "stays" });
    // By then the server knows that the first one has left.
    await expect.poll(() => late.loads.length).toBe(2);
    gate.resolve();
    await stays;
    expect([...scene.begun]).toEqual(["stays"]);
  });

  it("fails the call without saying why when a service cannot be loaded, and tries again with the next", async () => {
    const late = new Late(mountsOf(new Scene()));
    late.failures = 1;
    const logged: unknown[] = [];
    const telemetry = quietTelemetry();
    telemetry.log.error = (fields: unknown) => logged.push(fields);
    stage = await setStage(protocol, late.mounts, { telemetry });
    const failed = await stage.state.get({ key: "size:1" }).catch((error: ConnectError) => error);
    // Clients of gRPC that came over HTTP see nothing but the HTTP status, 500.
    expect((failed as ConnectError).rawMessage).toMatch(/^(internal error|HTTP 500)$/);
    expect(logged).toEqual([expect.objectContaining({ rpc: "outrider.state.v1.StateService/Get" })]);
    expect((await stage.state.get({ key: "size:1" })).item?.value.length).toBe(1);
  });
});
