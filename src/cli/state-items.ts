/** `outrider state get`, `set` and `delete`. */
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { durationFromMs, timestampDate } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import type { Item } from "../../gen/outrider/state/v1/state_pb.ts";
import { callFailure, connectSidecar, reasonIn, type SidecarClient } from "./client.ts";
import { readInput } from "./input.ts";
import type { SidecarOptions } from "./options.ts";
import { contentTypeOf, type JsonMember, jsonMember } from "./payload.ts";
import { CommandFailure, print, printJson, type Terminal } from "./terminal.ts";

/** A value longer than this is written in chunks, in bytes: well below the smallest usual message limit. */
const maxUnaryBytes = 1024 * 1024;

interface ItemOptions extends SidecarOptions {
  readonly component?: string;
  readonly json?: boolean;
}

/** Prints a value, or writes it to a file. */
export async function get(
  terminal: Terminal,
  key: string,
  options: ItemOptions & { readonly output?: string },
): Promise<void> {
  const { state, address } = await connectSidecar(terminal, options);
  const request = { component: options.component ?? "", key };
  const signal = terminal.interrupted;
  try {
    if (options.output !== undefined) return await download(state, request, options.output, signal);
    const item = await getItem(state, request, signal);
    if (item === undefined) throw new CommandFailure(`there is no item "${key}"`);
    if (options.json) await printJson(terminal, ...itemJson(item.item, item.value));
    else await print(terminal, item.value);
  } catch (error) {
    throw callFailure(error, address);
  }
}

/** Writes a value and prints its etag. */
export async function set(
  terminal: Terminal,
  key: string,
  value: string | undefined,
  options: ItemOptions & {
    readonly file?: string;
    readonly etag?: string;
    readonly absent?: boolean;
    readonly ttl?: number;
    readonly contentType?: string;
    readonly metadata?: Record<string, string>;
  },
): Promise<void> {
  const input = readInput(terminal, { argument: value, file: options.file, name: "VALUE" });
  const { head, rest } = await headOf(input);
  const { state, address } = await connectSidecar(terminal, options);
  const item = {
    component: options.component ?? "",
    key,
    contentType: options.contentType ?? (rest ? "application/octet-stream" : contentTypeOf(head)),
    metadata: options.metadata ?? {},
    ...(options.ttl === undefined ? {} : { timeToLive: durationFromMs(options.ttl) }),
    ...preconditionOf(options),
  };
  const signal = terminal.interrupted;
  try {
    const { etag } = rest
      ? await state.write(writeRequests(item, head, rest), { signal })
      : await state.set({ ...item, value: head }, { signal });
    if (options.json) await printJson(terminal, { key, etag });
    else await print(terminal, `${etag}\n`);
  } catch (error) {
    throw callFailure(error, address);
  }
}

/** Deletes an item. */
export async function remove(
  terminal: Terminal,
  key: string,
  options: ItemOptions & { readonly etag?: string },
): Promise<void> {
  const { state, address } = await connectSidecar(terminal, options);
  const request = { component: options.component ?? "", key, ...preconditionOf(options) };
  await state.delete(request, { signal: terminal.interrupted }).catch((error: unknown) => {
    throw callFailure(error, address);
  });
}

/** An item for programs, for printJson. */
export function itemJson(
  item: Item,
  value: Uint8Array | undefined,
): [Record<string, unknown>, JsonMember | undefined] {
  const { key, etag, contentType, metadata, expiresAt, valueBytes } = item;
  const members = {
    key,
    etag,
    contentType,
    valueBytes: Number(valueBytes),
    ...(Object.keys(metadata).length > 0 ? { metadata } : {}),
    ...(expiresAt ? { expiresAt: timestampDate(expiresAt).toISOString() } : {}),
  };
  const saidToBeJson = /[/+]json\b/.test(contentType);
  return [members, value && jsonMember(value, saidToBeJson, { plain: "value", base64: "valueBase64" })];
}

type State = SidecarClient["state"];
type KeyRequest = { readonly component: string; readonly key: string };

/** In one message if it fits, else in chunks. */
async function getItem(state: State, request: KeyRequest, signal: AbortSignal) {
  try {
    const { item } = await state.get(request, { signal });
    return item && { item, value: item.value };
  } catch (error) {
    if (!(error instanceof ConnectError) || reasonIn(error) !== "VALUE_TOO_LARGE") throw error;
    const { item, chunks } = await readItem(state, request, signal);
    const parts: Uint8Array[] = [];
    for await (const chunk of chunks) parts.push(chunk);
    return item && { item, value: Buffer.concat(parts) };
  }
}

/** The file is there only when it is complete. */
async function download(state: State, request: KeyRequest, path: string, signal: AbortSignal): Promise<void> {
  const { item, chunks } = await readItem(state, request, signal);
  if (item === undefined) throw new CommandFailure(`there is no item "${request.key}"`);
  try {
    await pipeline(Readable.from(chunks), createWriteStream(path), { signal });
  } catch (error) {
    await rm(path, { force: true });
    if (error instanceof Error && "syscall" in error && "path" in error) {
      throw new CommandFailure(`${path} cannot be written: ${error.message}`);
    }
    throw error;
  }
}

async function readItem(state: State, request: KeyRequest, signal: AbortSignal) {
  const parts = state.read(request, { signal })[Symbol.asyncIterator]();
  const first = await parts.next();
  const head = first.done ? undefined : first.value.part;
  async function* chunks() {
    for (let next = await parts.next(); !next.done; next = await parts.next()) {
      if (next.value.part.case === "chunk") yield next.value.part.value;
    }
  }
  return { item: head?.case === "item" ? head.value : undefined, chunks: chunks() };
}

/** All of the input if it fits in one message, else what has been read of it and the rest. */
async function headOf(input: AsyncGenerator<Buffer, void, undefined>) {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for (let next = await input.next(); !next.done; next = await input.next()) {
    chunks.push(next.value);
    bytes += next.value.length;
    if (bytes > maxUnaryBytes) return { head: Buffer.concat(chunks), rest: input };
  }
  return { head: Buffer.concat(chunks), rest: undefined };
}

async function* writeRequests<Begin>(begin: Begin, head: Buffer, rest: AsyncIterable<Buffer>) {
  yield { part: { case: "begin" as const, value: begin } };
  for (let at = 0; at < head.length; at += maxUnaryBytes) {
    yield { part: { case: "chunk" as const, value: head.subarray(at, at + maxUnaryBytes) } };
  }
  for await (const chunk of rest) yield { part: { case: "chunk" as const, value: chunk } };
}

function preconditionOf(options: { readonly etag?: string; readonly absent?: boolean }) {
  if (options.etag !== undefined) {
    return { precondition: { condition: { case: "etag" as const, value: options.etag } } };
  }
  return options.absent ? { precondition: { condition: { case: "absent" as const, value: true } } } : {};
}
