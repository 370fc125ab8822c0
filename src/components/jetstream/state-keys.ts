/**
 * Keys of items as keys of a bucket, which may have letters, digits and `-/_=.` only.
 *
 * The first `||`, which stands between the application and its key, becomes a dot, as in Dapr; so `app||order.1` is
 * `app.order.1` in the bucket. Dots before it, what NATS does not allow, and `=` become `=XX`, the bytes of their
 * UTF-8 in hexadecimal. No two keys become the same.
 */

/** The key in the bucket. */
export function bucketKeyOf(key: string): string {
  const at = key.indexOf("||");
  if (at <= 0) return escapePart(key, /[^-/\w]/gu);
  const rest = key.slice(at + 2);
  return `${escapePart(key.slice(0, at), /[^-/\w]/gu)}.${rest === "" ? "=" : escapeRest(rest)}`;
}

/** The key of an item in the bucket. */
export function keyOf(bucketKey: string): string {
  const at = bucketKey.indexOf(".");
  if (at < 0) return resolved(bucketKey);
  const rest = bucketKey.slice(at + 1);
  return `${resolved(bucketKey.slice(0, at))}||${rest === "=" ? "" : resolved(rest)}`;
}

/** The keys of the bucket among which are all those that begin with a prefix: a filter for subjects. */
export function filterOf(prefix: string): string {
  const at = prefix.indexOf("||");
  if (at < 0) return ">";
  // The runtime's own keys are without a dot.
  return at === 0 ? "*" : `${escapePart(prefix.slice(0, at), /[^-/\w]/gu)}.>`;
}

/** Dots stay where they part two words. */
function escapeRest(rest: string): string {
  return escapePart(rest, /^\.|\.$|(?<=\.)\.|[^-/\w.]/gu);
}

function escapePart(text: string, unsafe: RegExp): string {
  return text.replace(unsafe, (character) =>
    [...Buffer.from(character)]
      .map((byte) => `=${byte.toString(16).toUpperCase().padStart(2, "0")}`)
      .join(""),
  );
}

function resolved(text: string): string {
  if (!text.includes("=")) return text;
  return text.replace(/(?:=[0-9A-F]{2})+/g, (bytes) =>
    Buffer.from(bytes.replaceAll("=", ""), "hex").toString(),
  );
}

/** Orders keys by their bytes in UTF-8. */
export function sortKeys(keys: readonly string[]): string[] {
  const pairs = keys.map((key) => [Buffer.from(key), key] as const);
  return pairs.sort(([a], [b]) => Buffer.compare(a, b)).map(([, key]) => key);
}
