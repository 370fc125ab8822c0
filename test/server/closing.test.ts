/** How servers end: what runs may finish, what does not finish is ended, and nothing is left. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { StateService } from "../../gen/outrider/state/v1/state_pb.ts";
import { mountsOf, protocols, Scene, setStage, startServer } from "./service.ts";

const failure = (promise: Promise<unknown>): Promise<ConnectError | undefined> =>
  promise.then(
    () => undefined,
    (error: unknown) => ConnectError.from(error),
  );

describe.each(protocols)("$name", (protocol) => {
  it("lets a call finish, and takes no new connections meanwhile", async () => {
    const scene = new Scene();
    const stage = await setStage(protocol, mountsOf(scene));
    const running = stage.state.get({ key: "deaf" });
    await expect.poll(() => scene.begun.has("deaf")).toBe(true);
    const closed = stage.server.close(10_000);
    const other = createClient(StateService, protocol.transport(stage.baseUrl));
    expect((await failure(other.get({ key: "late" })))?.code).toBe(Code.Unavailable);
    scene.release();
    expect((await running).item?.key).toBe("deaf");
    await closed;
  });

  it("ends what does not finish in time with UNAVAILABLE", async () => {
    const scene = new Scene();
    const stage = await setStage(protocol, mountsOf(scene));
    const slow = failure(stage.state.get({ key: "slow" }));
    const watching = stage.state.watch({ selector: { case: "key", value: "idle" } })[Symbol.asyncIterator]();
    for (let i = 0; i < 3; i++) await watching.next();
    const idle = failure(watching.next());
    await expect.poll(() => scene.begun.has("slow")).toBe(true);
    await stage.server.close(50);
    const error = await slow;
    expect(error?.code).toBe(Code.Unavailable);
    expect(error?.findDetails(ErrorInfoSchema)[0]?.reason).toBe("SHUTTING_DOWN");
    expect(scene.aborted.get("slow")).toMatchObject({ code: Code.Unavailable });
    expect(scene.aborted.get("idle")).toMatchObject({ code: Code.Unavailable });
    await idle;
  });

  it("ends a call whose handler listens to nobody", async () => {
    const scene = new Scene();
    const stage = await setStage(protocol, mountsOf(scene));
    const deaf = failure(stage.state.get({ key: "deaf" }));
    await expect.poll(() => scene.begun.has("deaf")).toBe(true);
    await stage.server.close(50);
    expect(await deaf).toBeInstanceOf(ConnectError);
    scene.release();
  });

  it("aborts the signals of open calls when the sidecar stops, and goes on serving", async () => {
    const scene = new Scene();
    const stopping = new AbortController();
    const stage = await setStage(protocol, mountsOf(scene), { shutdownSignal: stopping.signal });
    const slow = failure(stage.state.get({ key: "slow" }));
    await expect.poll(() => scene.aborted.size + scene.begun.size).toBe(1);
    stopping.abort();
    const error = await slow;
    expect([error?.code, error?.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([
      Code.Unavailable,
      "SHUTTING_DOWN",
    ]);
    expect((await stage.state.get({ key: "next" })).item?.key).toBe("next");
    await stage.server.close(0);
  });
});

describe.each(["grpc", "http"] as const)("the %s port", (name) => {
  it("closes connections that say nothing at once", async () => {
    const server = await startServer(name, mountsOf(new Scene()));
    const silent: Socket = connect(server.port, "127.0.0.1");
    await new Promise((resolve) => silent.once("connect", resolve));
    silent.on("error", () => {});
    const closed = new Promise((resolve) => silent.once("close", resolve));
    silent.resume();
    await server.close(10_000);
    await closed;
  });

  it("says that its address is in use", async () => {
    const server = await startServer(name, mountsOf(new Scene()));
    const again = startServer(name, mountsOf(new Scene()), { port: server.port });
    await expect(again).rejects.toMatchObject({ code: "EADDRINUSE" });
    await server.close(0);
  });
});

it("leaves nothing behind that would keep a process alive", async () => {
  const program = new URL("open-and-close.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [program], { stdio: "inherit" });
  const timer = setTimeout(() => child.kill("SIGKILL"), 15_000);
  const [code] = await once(child, "exit");
  clearTimeout(timer);
  expect(code).toBe(0);
});
