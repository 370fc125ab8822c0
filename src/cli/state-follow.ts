/** `outrider state list` and `watch`. */
import type { Change } from "../../gen/outrider/state/v1/state_pb.ts";
import { callFailure, connectSidecar } from "./client.ts";
import type { SidecarOptions } from "./options.ts";
import { lineOf, safe } from "./payload.ts";
import { itemJson } from "./state-items.ts";
import { paint, print, printJson, type Terminal, usageFailure } from "./terminal.ts";

/** Items asked for at once. */
const pageSize = 500;

interface FollowOptions extends SidecarOptions {
  readonly component?: string;
  readonly max?: number;
  readonly json?: boolean;
}

/** Prints keys, or items with `--json`. */
export async function list(
  terminal: Terminal,
  prefix: string,
  options: FollowOptions & { readonly values?: boolean },
): Promise<void> {
  const { state, address } = await connectSidecar(terminal, options);
  const values = options.json === true && options.values === true;
  let left = options.max ?? Number.POSITIVE_INFINITY;
  let pageToken = "";
  try {
    do {
      const request = {
        component: options.component ?? "",
        prefix,
        pageSize: Math.min(pageSize, left),
        pageToken,
      };
      const page = await state.list({ ...request, keysOnly: !values }, { signal: terminal.interrupted });
      for (const item of page.items) {
        // A value that does not fit in a page is left out of it.
        const value = values && item.value.length === Number(item.valueBytes) ? item.value : undefined;
        if (options.json) await printJson(terminal, ...itemJson(item, value));
        else await print(terminal, `${safe(item.key)}\n`);
      }
      left -= page.items.length;
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && left > 0 && !terminal.interrupted.aborted);
  } catch (error) {
    if (!terminal.interrupted.aborted) throw callFailure(error, address);
  }
}

/** Prints what is there, and changes, until it is interrupted. */
export async function watch(
  terminal: Terminal,
  key: string | undefined,
  options: FollowOptions & { readonly prefix?: string },
): Promise<void> {
  if ((key === undefined) === (options.prefix === undefined))
    throw usageFailure("give KEY or --prefix, one of them");
  const selector =
    key === undefined
      ? { case: "prefix" as const, value: options.prefix ?? "" }
      : { case: "key" as const, value: key };
  const { state, address } = await connectSidecar(terminal, options);
  const enough = new AbortController();
  const signal = AbortSignal.any([terminal.interrupted, enough.signal]);
  let left = options.max ?? Number.POSITIVE_INFINITY;
  try {
    for await (const { changes } of state.watch(
      { component: options.component ?? "", selector },
      { signal },
    )) {
      for (const change of changes.slice(0, left)) await printChange(terminal, change, options.json ?? false);
      left -= changes.length;
      if (left <= 0) enough.abort();
    }
  } catch (error) {
    if (!signal.aborted) throw callFailure(error, address);
  }
}

async function printChange(terminal: Terminal, { key, item }: Change, json: boolean): Promise<void> {
  if (json) {
    if (!item) return printJson(terminal, { change: "delete", key });
    const value = item.value.length === Number(item.valueBytes) ? item.value : undefined;
    const [members, last] = itemJson(item, value);
    return printJson(terminal, { change: "set", ...members }, last);
  }
  const color = terminal.colorOut;
  const name = paint(color, "cyan", safe(key));
  if (!item) return print(terminal, `${paint(color, "red", "delete")} ${name}\n`);
  return print(terminal, `${paint(color, "green", "set")} ${name} ${lineOf(item.value, item.contentType)}\n`);
}
