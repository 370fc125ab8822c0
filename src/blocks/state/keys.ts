/** What a key may be, and what is put before it in the store. */

/** The longest key, in bytes of UTF-8. What is put before it comes on top. */
const maxKeyBytes = 1024;

/** Between what is put before a key and the key. As Dapr has it, whose data can be read on. */
const separator = "||";

/** Before the keys of the runtime's own items: no application's key begins so. */
export const reservedPrefix = separator;

/** Before the keys of the notes of outboxes, of all applications. They are few, and listed again and again. */
export const notePrefix = `${reservedPrefix}outbox${separator}`;

/** Whether a stored key is of the runtime itself. Applications without a prefix would see it otherwise. */
export function isReserved(storedKey: string): boolean {
  return storedKey.startsWith(reservedPrefix);
}

/** Control characters, and the separator. */
const forbidden = /\p{Cc}|\|\|/u;

/** Why this can be no key; undefined when it can. */
export function keyViolation(key: string): string | undefined {
  if (key === "") return "must not be empty";
  return prefixViolation(key);
}

/** Why no key can begin with this; undefined when one can. */
export function prefixViolation(prefix: string): string | undefined {
  // A UTF-16 unit has at most three bytes in UTF-8, so most keys need no counting.
  if (prefix.length * 3 > maxKeyBytes && Buffer.byteLength(prefix) > maxKeyBytes) {
    return `must have at most ${maxKeyBytes} bytes of UTF-8`;
  }
  if (forbidden.test(prefix)) {
    return prefix.includes(separator)
      ? `must not contain "${separator}"`
      : "must not contain control characters";
  }
  if (!prefix.isWellFormed()) return "must be well-formed: it has half of a surrogate pair";
  return undefined;
}

/** Who keeps keys, which tells them from those of others in the same store. */
export interface KeyOwner {
  readonly component: string;
  readonly appId: string;
  readonly namespace: string;
}

/**
 * What is put before every key, of Dapr's setting `keyPrefix`: "appid", "name", "namespace", "none", or
 * any other text, which Dapr makes lowercase.
 */
export function storedPrefix(keyPrefix: string, owner: KeyOwner): string {
  switch (keyPrefix.toLowerCase()) {
    case "none":
      return "";
    case "name":
      return owner.component + separator;
    case "namespace":
      return `${owner.namespace}.${owner.appId}${separator}`;
    case "appid":
      return owner.appId + separator;
    default:
      return keyPrefix.toLowerCase() + separator;
  }
}
