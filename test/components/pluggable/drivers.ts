/** Both drivers, opened on a folder of sockets. */
import { PluggablePubSub } from "../../../src/components/pluggable/pubsub.ts";
import { PluggableState } from "../../../src/components/pluggable/state.ts";
import { openContext } from "../open-context.ts";

/** A call that fails rather than let a test hang. */
export const call = () => ({ signal: AbortSignal.timeout(20_000) });

/** Everything that a store can say of itself, as far as it is used. */
export const all = ["ETAG", "TRANSACTIONAL", "TTL"];

export function openState(folder: string, socket = "store", signal = AbortSignal.timeout(5000)) {
  const options = { folder: { path: folder, named: true }, socket, properties: {} };
  return PluggableState.open(options, openContext({ signal }));
}

export function openPubSub(folder: string, socket = "broker") {
  const options = { folder: { path: folder, named: true }, socket, properties: {} };
  return PluggablePubSub.open(options, openContext());
}
