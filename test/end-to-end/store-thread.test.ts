import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import type { Delivery } from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { makeProject, removeProject, SidecarProcess } from "../outrider.ts";
import { Application } from "./application.ts";

describe("the embedded store's thread", () => {
  it("is followed by another when it throws: what was acknowledged is there, and subscriptions go on", async () => {
    const directory = await makeProject();
    const throwWhen = join(directory, "throw");
    const preload = pathToFileURL(join(import.meta.dirname, "throwing-thread.ts")).href;
    const env = { NODE_OPTIONS: `--import=${preload}`, THROW_WHEN: throwWhen };
    await using sidecar = await SidecarProcess.start({ cwd: directory, env });
    using app = new Application(sidecar.grpcPort);
    const seen: string[] = [];
    const held: Delivery[] = [];
    const handle = (deliveries: readonly Delivery[]) => {
      for (const delivery of deliveries) {
        const text = Buffer.from(delivery.event!.data).toString();
        seen.push(text);
        // The first time it is with the application when the thread throws.
        if (text === "held" && delivery.subscription === 1 && held.length === 0) held.push(delivery);
        else stream.settle([delivery]);
      }
    };
    using stream = app.subscribe(
      [
        { topic: "events", group: "group" },
        { topic: "events", broadcast: true },
      ],
      handle,
    );
    await expect.poll(() => stream.said.filter((one) => one.case === "opened").length).toBe(2);
    await app.state.set({ key: "key", value: Buffer.from("before") });
    await app.publish("events", "before", "held");
    await expect.poll(() => seen.length).toBe(4);
    const again = async (work: () => Promise<unknown>) =>
      expect
        .poll(
          () =>
            work().then(
              () => true,
              () => false,
            ),
          { timeout: 20_000 },
        )
        .toBe(true);
    for (const round of ["one", "two"]) {
      seen.length = 0;
      writeFileSync(throwWhen, "");
      await expect.poll(() => existsSync(throwWhen)).toBe(false);
      await again(() => app.publish("events", round));
      const { item } = await app.state.get({ key: "key" });
      expect(Buffer.from(item!.value).toString()).toBe("before");
      await expect.poll(() => seen, { timeout: 20_000 }).toContain(round);
      // The broadcast gets what comes from when it is there again: then there are more of these than were published.
      let published = 0;
      const bothRead = async () => {
        published += 1;
        await app.publish("events", `${round} again`);
        return seen.filter((text) => text === `${round} again`).length - published;
      };
      await expect.poll(bothRead, { timeout: 20_000 }).toBeGreaterThan(0);
      if (round === "one") await expect.poll(() => seen, { timeout: 20_000 }).toContain("held");
    }
    await app.state.set({ key: "key", value: Buffer.from("after") });
    expect(sidecar.stderr).toContain("another one is started");
    sidecar.kill("SIGTERM");
    expect(await sidecar.ended).toMatchObject({ code: 0 });
    await removeProject(directory);
  }, 90_000);
});
