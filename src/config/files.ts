/** The files of a configuration. */
import { open, readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Remarks } from "./remarks.ts";

/** A file that has been read. */
export interface ReadFile {
  /** For remarks: the path as it was given, or found in a directory that was given. */
  readonly path: string;
  /** The same for every path to the same file. */
  readonly real: string;
  readonly text: string;
}

/** The largest file that is read. Everything is held in memory, and parsed before anything is served. */
export const mostFileBytes = 512 * 1024;

/**
 * Reads files, and the .yaml and .yml files of directories, sorted by name; not those of directories within,
 * so that a Kubernetes ConfigMap mount, whose files are links into such a directory, is read once.
 * What cannot be read is a mistake.
 */
export async function readFiles(paths: readonly string[], remarks: Remarks): Promise<readonly ReadFile[]> {
  const files: ReadFile[] = [];
  const seen = new Set<string>();
  for (const path of await listFiles(paths, remarks)) {
    const real = await realpath(path).catch(() => path);
    if (seen.has(real)) continue;
    seen.add(real);
    const text = await readText(path);
    if (typeof text === "string") files.push({ path, real, text });
    else remarks.mistake(about(path, text.problem));
  }
  return files;
}

/** The content of a regular file of limited size, or why there is none. */
export async function readText(path: string): Promise<string | { readonly problem: string }> {
  try {
    // Asked before it is opened: opening a pipe waits for somebody to write.
    if (!(await stat(path)).isFile()) return { problem: "is not a file" };
    await using file = await open(path);
    const buffer = Buffer.allocUnsafe(mostFileBytes + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length);
      length += bytesRead;
      if (length > mostFileBytes) return { problem: `has more than ${mostFileBytes} bytes` };
      if (bytesRead === 0) break;
    }
    return new TextDecoder("utf-8", { fatal: true }).decode(buffer.subarray(0, length));
  } catch (error) {
    return { problem: unreadable(error) };
  }
}

async function listFiles(paths: readonly string[], remarks: Remarks): Promise<readonly string[]> {
  const files: string[] = [];
  for (const path of paths) {
    try {
      if (!(await stat(path)).isDirectory()) {
        files.push(path);
        continue;
      }
      for (const name of (await readdir(path)).filter((each) => /\.ya?ml$/i.test(each)).sort()) {
        const file = join(path, name);
        const found = await stat(file).catch(() => undefined);
        // A link that leads nowhere is kept, so that reading it says so.
        if (!found?.isDirectory()) files.push(file);
      }
    } catch (error) {
      remarks.mistake(about(path, unreadable(error)));
    }
  }
  return files;
}

function about(file: string, message: string) {
  return { file, line: 0, column: 0, resource: "", field: "", message };
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "does not exist",
  EACCES: "cannot be read: permission denied",
  ERR_ENCODING_INVALID_ENCODED_DATA: "is not UTF-8 text",
};

function unreadable(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code ?? String(error);
  return reasons[code] ?? `cannot be read (${code})`;
}
