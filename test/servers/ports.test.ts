import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { expect, it } from "vitest";
import { freePort } from "./ports.ts";

it("a port that was drawn is marked for other processes, and a server can listen there", async () => {
  const port = await freePort();
  // What another process that draws the same one would find.
  const other = createSocket("udp4");
  other.bind({ port, address: "127.0.0.1", exclusive: true });
  const [error] = await once(other, "error");
  expect(error).toMatchObject({ code: "EADDRINUSE" });
  other.close();
  await using server = createServer().listen(port, "127.0.0.1");
  await once(server, "listening");
});
