/** Types that are known only when the sidecar starts: what a configuration may say, and what `outrider check` makes of it. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeAssembly } from "../../../src/assembly.ts";
import { pluggableTypes } from "../../../src/components/pluggable/components.ts";
import { check, describe as describeConfiguration } from "../../../src/config/check.ts";
import { load } from "../../../src/config/load.ts";
import { componentYaml, directory, mistakesOf } from "../../config/fixture.ts";
import { openContext } from "../open-context.ts";
import { memoryStore, type Told } from "./memory-store.ts";
import { SocketsFolder } from "./node-component.ts";

/** Loads one component, with sockets looked for in a folder; undefined: in one that is not there. */
async function loadOne(type: string, folder: string, fields = "") {
  const path = await directory({ "a.yaml": componentYaml("mine", type, fields) });
  const environment = { DAPR_COMPONENTS_SOCKETS_FOLDER: folder };
  return load({ ...makeAssembly(), resourcesPaths: [path], configPaths: [], appId: "shop", environment });
}

describe("a type that this build has not", () => {
  it("is a pluggable component where its socket is, with any metadata", async () => {
    await using sockets = await SocketsFolder.make();
    const told: Told = [];
    await sockets.serve("mystore", memoryStore(["ETAG"], told));
    const fields = [
      ...["- name: host", "  value: somewhere", "- name: keyprefix", "  value: none"],
      ...["- name: ttlInSeconds", "  value: 60"],
    ].join("\n");
    const { components, notes } = await loadOne("state.mystore", sockets.path, fields);
    const [mine] = components;
    expect(mine).toMatchObject({ name: "mine", block: "state", version: "v1" });
    // What the block knows is the block's, too.
    expect(mine!.blockSettings).toMatchObject({ keyPrefix: "none", ttlInSeconds: 60 });
    expect(notes.map(({ message }) => message)).toContain(
      "a pluggable component: its metadata is for itself to check",
    );
    const driver = await mine!.component.configure(mine!.settings)(openContext({ name: "mine" }));
    expect(told).toEqual([{ host: "somewhere", keyPrefix: "none", ttlInSeconds: "60" }]);
    await driver.close();
  });

  it("is not told the keys that its values are encrypted with", async () => {
    await using sockets = await SocketsFolder.make();
    const told: Told = [];
    await sockets.serve("mystore", memoryStore(["ETAG"], told));
    const fields = "- name: primaryEncryptionKey\n  envRef: APP_KEY";
    const path = await directory({
      "a.yaml": componentYaml(
        "mine",
        "state.mystore",
        `${fields}\n- name: primaryEncryptionKeyName\n  value: k`,
      ),
    });
    const environment = { DAPR_COMPONENTS_SOCKETS_FOLDER: sockets.path, APP_KEY: "0".repeat(32) };
    const options = { resourcesPaths: [path], configPaths: [], appId: "shop", environment };
    const [mine] = (await load({ ...makeAssembly(), ...options })).components;
    const driver = await mine!.component.configure(mine!.settings)(openContext({ name: "mine" }));
    expect(told).toEqual([{ primaryEncryptionKeyName: "k" }]);
    await driver.close();
  });

  it("is waited for where its socket may still come, and the notes say so", async () => {
    await using sockets = await SocketsFolder.make();
    const { components, notes } = await loadOne("pubsub.later", sockets.path);
    expect(components[0]).toMatchObject({ block: "pubsub" });
    expect(notes.map(({ message }) => message).join()).toContain(
      `there is no socket "later" in ${sockets.path} now, so it is waited for`,
    );
    // Somebody has named the folder: it may come, too.
    const named = join(sockets.path, "made-later");
    expect((await loadOne("pubsub.later", named)).components[0]).toMatchObject({ block: "pubsub" });
    // Who checks sees the same, without a component anywhere.
    const path = await directory({ "a.yaml": componentYaml("mine", "pubsub.later") });
    const environment = { DAPR_COMPONENTS_SOCKETS_FOLDER: named };
    expect(describeConfiguration(await check([path], { ...makeAssembly(), environment }))).toMatch(
      /mine +pubsub\.later v1[\s\S]*note: .*its metadata is for itself to check; there is no socket "later"/,
    );
  });

  it("is a mistake where it looks like a misspelt one, unless there is such a socket", async () => {
    await using sockets = await SocketsFolder.make();
    const [mistake] = await mistakesOf(loadOne("state.redys", sockets.path));
    expect(mistake).toContain(
      'no component of type "state.redys" in this build; did you mean "state.redis"?',
    );
    expect(mistake).toContain(`there is no socket "redys" in ${sockets.path}`);
    await sockets.serve("redys", memoryStore([]));
    const { components } = await loadOne("state.redys", sockets.path);
    expect(components.map(({ component }) => component.type)).toContain("state.redys");
  });

  it("is a mistake where there is no folder, and in a block that cannot be pluggable", async () => {
    const types = ["state.mystore"];
    const found = await pluggableTypes(types, [], { path: "/no/such/folder", named: false });
    expect([...found.values()]).toEqual([
      { problem: "no pluggable component either, for there is no folder /no/such/folder" },
    ]);
    await using sockets = await SocketsFolder.make();
    const [binding] = await mistakesOf(loadOne("bindings.mine", sockets.path));
    expect(binding).toContain("only state and pubsub can be pluggable components");
  });
});
