/** Text that a client carries for us, and may not look into or make up: page tokens and positions. */
import { crc32 } from "node:zlib";

const checksumBytes = 4;

/**
 * Makes it opaque. The scope is what the text belongs to: in another one it does not open.
 * This finds mistakes; it keeps no secret from anybody who wants to know.
 */
export function sealText(scope: string, text: string): string {
  const bytes = Buffer.from(text);
  const sealed = Buffer.allocUnsafe(checksumBytes + bytes.byteLength);
  sealed.writeUInt32BE(checksumOf(scope, bytes));
  bytes.copy(sealed, checksumBytes);
  return sealed.toString("base64url");
}

/** What was sealed in this scope; undefined when it is anything else. */
export function openText(scope: string, sealed: string): string | undefined {
  const bytes = Buffer.from(sealed, "base64url");
  // Decoding passes over what is no base64; writing it again shows that.
  if (bytes.byteLength < checksumBytes || bytes.toString("base64url") !== sealed) return undefined;
  const text = bytes.subarray(checksumBytes);
  return bytes.readUInt32BE() === checksumOf(scope, text) ? text.toString() : undefined;
}

function checksumOf(scope: string, text: Buffer): number {
  return crc32(text, crc32(`${scope}\0`));
}
