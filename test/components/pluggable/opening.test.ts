/** Components that are not there, not well, or not what they should be when they are opened. */
import { writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { all, call, openState } from "./drivers.ts";
import { memoryStore } from "./memory-store.ts";
import { SocketsFolder } from "./node-component.ts";

describe("opening a component", () => {
  it("says which socket is missing, and in which folder", async () => {
    await using sockets = await SocketsFolder.make();
    await expect(openState(sockets.path)).rejects.toThrow(`there is no socket "store" in ${sockets.path}`);
    await expect(openState(join(sockets.path, "no-folder"))).rejects.toThrow('there is no socket "store"');
    await writeFile(join(sockets.path, "store.sock"), "a file, and no socket");
    await expect(openState(sockets.path)).rejects.toThrow('there is no socket "store"');
  });

  it("finds the socket whatever its extension and the case of its name", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("My.Store", memoryStore(all));
    const driver = await openState(sockets.path, "my.store");
    await driver.ping(call());
    await driver.close();
  });

  it.each(["v1", "v1alpha"] as const)(
    "asks a server for its services that has reflection %s",
    async (version) => {
      await using sockets = await SocketsFolder.make();
      await sockets.serve("store", memoryStore(all), version);
      const driver = await openState(sockets.path);
      expect(driver.supports).toMatchObject({ transactions: true, timeToLive: true, etags: true });
      await driver.close();
    },
  );

  it("says what it found where the service is missing, or reflection", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("broker", { pubsub: {} });
    await expect(openState(sockets.path, "broker")).rejects.toThrow(
      /does not serve dapr\.proto\.components\.v1\.StateStore; it serves: dapr\.proto\.components\.v1\.PubSub/,
    );
    await sockets.serve("silent", memoryStore(all), "none");
    await expect(openState(sockets.path, "silent")).rejects.toThrow(
      "does not tell its services by reflection",
    );
  });

  it("passes on why the component refuses its settings", async () => {
    await using sockets = await SocketsFolder.make();
    const init = () => {
      throw new ConnectError("connectionString is missing", Code.InvalidArgument);
    };
    await sockets.serve("store", { state: { init } });
    await expect(openState(sockets.path)).rejects.toThrow(
      '"store" could not be initialized: connectionString is missing',
    );
  });

  it("gives up when nobody answers within the time that it has", async () => {
    await using sockets = await SocketsFolder.make();
    await sockets.serve("store", { state: { init: () => new Promise(() => {}) } });
    await expect(openState(sockets.path, "store", AbortSignal.timeout(300))).rejects.toThrow();
  });

  it.each([
    ["hangs up", (socket: { end(): void }) => socket.end()],
    ["says nothing", () => {}],
    ["talks nonsense", (socket: { write(text: string): void }) => socket.write("SSH-2.0-OpenSSH_9.6\r\n")],
  ] as const)("fails where somebody listens who %s", async (_what, answer) => {
    await using sockets = await SocketsFolder.make();
    await using _ = await listen(join(sockets.path, "store.sock"), answer);
    await expect(openState(sockets.path, "store", AbortSignal.timeout(500))).rejects.toThrow(
      "nobody answers at",
    );
  });
});

/** Listens on a socket, and does that with whoever comes. */
async function listen(path: string, answer: (socket: never) => void): Promise<AsyncDisposable> {
  const open = new Set<{ destroy(): void }>();
  const server: Server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => {});
    answer(socket as never);
  });
  await new Promise<void>((listening) => server.listen(path, listening));
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise((done) => server.close(done));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
