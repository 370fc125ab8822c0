/** Components whose types are those of processes beside the sidecar: `state.NAME` and `pubsub.NAME` for a socket NAME. */
import * as z from "zod";
import { type Component, component, type OpenContext } from "../../component.ts";
import type { FoundType } from "../../config/declared-components.ts";
import { nearest } from "../../config/suggest.ts";
import { type SocketsFolder, socketComes, socketsIn } from "./sockets.ts";

/** A component's own business: nobody here knows its fields. */
const schema = z.record(z.string(), z.string());
const versions = ["v1"] as const;
/** Keys that are the sidecar's business alone: it encrypts before the component sees anything. */
const secretFields: readonly string[] = ["primaryEncryptionKey", "secondaryEncryptionKey"];

/**
 * What types of a configuration are that this build has not. A type is a pluggable component when its socket is there,
 * or may come: where the folder of sockets has a name or exists, unless the type looks like a misspelt one of `known`.
 */
export async function pluggableTypes(
  types: readonly string[],
  known: readonly string[],
  folder: SocketsFolder,
): Promise<ReadonlyMap<string, FoundType>> {
  const sockets = await socketsIn(folder);
  return new Map(
    types.map((type): [string, FoundType] => {
      const name = type.slice(type.indexOf(".") + 1);
      const there = sockets?.has(name.toLowerCase()) ?? false;
      if (!there && sockets === undefined && !folder.named)
        return [type, { problem: `no pluggable component either, for there is no folder ${folder.path}` }];
      const none = `there is no socket "${name}" in ${folder.path}`;
      const made = pluggableComponent(type, name, folder);
      if (!made) return [type, { problem: "only state and pubsub can be pluggable components" }];
      const ofBlock = known.filter((each) => each.startsWith(type.slice(0, -name.length)));
      const names = ofBlock.map((each) => each.slice(each.indexOf(".") + 1));
      if (!there && nearest(name, names) !== undefined) return [type, { problem: none }];
      const note = "a pluggable component: its metadata is for itself to check";
      return [type, { component: made, note: there ? note : `${note}; ${none} now, so it is waited for` }];
    }),
  );
}

function pluggableComponent(type: string, socket: string, folder: SocketsFolder): Component | undefined {
  if (socket === "") return undefined;
  const comes = (signal: AbortSignal) => socketComes(folder, socket, signal);
  if (type.startsWith("state.")) {
    return component({
      type: `state.${socket}`,
      versions,
      schema,
      comes,
      async open(properties, context) {
        const { PluggableState } = await import("./state.ts");
        const own = Object.entries(properties).filter(([name]) => !secretFields.includes(name));
        return PluggableState.open({ folder, socket, properties: Object.fromEntries(own) }, context);
      },
    });
  }
  if (type.startsWith("pubsub.")) {
    return component({
      type: `pubsub.${socket}`,
      versions,
      schema,
      comes,
      async open(properties, context) {
        const { PluggablePubSub } = await import("./pubsub.ts");
        return PluggablePubSub.open({ folder, socket, properties: withGroup(properties, context) }, context);
      },
    });
  }
  return undefined;
}

/** A broker is told the group in its settings, as by Dapr: the contract has no other place for it. */
function withGroup(properties: Readonly<Record<string, string>>, { appId }: OpenContext) {
  const { consumerGroup, consumerID } = properties;
  return { ...properties, consumerID: consumerID?.trim() || consumerGroup || appId };
}
