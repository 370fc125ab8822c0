/** Where a command takes its data from: an argument, a file, or standard input. */
import { createReadStream } from "node:fs";
import type { Readable } from "node:stream";
import { CommandFailure, type Terminal, usageFailure } from "./terminal.ts";

/** Data that was given in one of three ways. */
export interface InputOptions {
  /** The argument; "-" is standard input. */
  readonly argument: string | undefined;
  /** `--file`. */
  readonly file: string | undefined;
  /** What the argument is called, such as "DATA". */
  readonly name: string;
}

/** The data as chunks. Throws when it was given in no way, or in two. */
export async function* readInput(
  terminal: Terminal,
  options: InputOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const { argument, file, name } = options;
  if (argument !== undefined && file !== undefined) throw usageFailure(`give ${name} or --file, not both`);
  if (argument === undefined && file === undefined) {
    throw usageFailure(`no data: give ${name}, --file, or - for standard input`);
  }
  if (argument !== undefined && argument !== "-") return yield Buffer.from(argument);
  const source: Readable = file === undefined ? terminal.stdin : createReadStream(file);
  try {
    for await (const chunk of source) yield Buffer.from(chunk as Uint8Array);
  } catch (error) {
    throw new CommandFailure(`${file ?? "standard input"} cannot be read: ${(error as Error).message}`);
  }
}

/** All of the data. */
export async function readAll(terminal: Terminal, options: InputOptions): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of readInput(terminal, options)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Line by line, without the line ends; empty lines are left out. */
export async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  const lineFeed = 10;
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let from = 0;
    for (let to = rest.indexOf(lineFeed); to !== -1; to = rest.indexOf(lineFeed, from)) {
      const line = withoutReturn(rest.subarray(from, to));
      if (line.length > 0) yield line;
      from = to + 1;
    }
    rest = rest.subarray(from);
  }
  if (withoutReturn(rest).length > 0) yield withoutReturn(rest);
}

function withoutReturn(line: Buffer): Buffer {
  return line.at(-1) === 13 ? line.subarray(0, -1) : line;
}
