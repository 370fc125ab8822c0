/** Keeps secrets out of the log, whatever is logged. */

/** What stands where a secret would. */
const redacted = "[redacted]";

/** Secrets shorter than this are not searched for in text: they would be found in every line. */
const minSecretLength = 4;

/** How deep a logged value is looked into, and how many causes of an error are told. */
const maxDepth = 6;
const maxCauses = 4;

/** Names of fields that hold a secret, whatever is in front of or behind them. */
const secretName =
  /passw(?:or)?d|passphrase|secret|token|credential|authorization|cookie|api[-_]?key|(?:private|access|account|shared)[-_]?key|connection[-_]?string|(?:^|[-_.])(?:pwd|dsn)(?:$|[-_.])/i;

/** Secrets that give themselves away in text: in a URL, as a bearer token, as `password=...`. */
const secretText =
  /(:\/\/[^\s/:@"]*:)[^\s/@"]+(?=@)|(\b(?:bearer|basic)\s+)[\w\-.~+/]{8,}=*|(\b(?:password|passwd|pwd|secret|token|api[-_]?key|accountkey|sharedaccesskey|accesskey)\s*=\s*)[^\s;,&"']+/gi;

/** Makes errors in a logged object plain: type, message, code, stack and causes, and no other property. */
export function plainErrors(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, plain(value, maxDepth)]));
}

function plain(value: unknown, depth: number): unknown {
  if (value instanceof Error) return plainError(value, maxCauses);
  if (typeof value !== "object" || value === null || depth === 0) return value;
  if (Array.isArray(value)) return value.map((item) => plain(item, depth - 1));
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item, depth - 1)]));
}

function plainError(error: Error, causes: number): Record<string, unknown> {
  const made: Record<string, unknown> = { type: error.name, message: error.message };
  if ("code" in error && (typeof error.code === "string" || typeof error.code === "number"))
    made.code = error.code;
  if (error.stack !== undefined) made.stack = error.stack;
  if (causes === 0) return made;
  if (error instanceof AggregateError) {
    made.errors = error.errors.slice(0, maxCauses).map((item) => plainCause(item, causes - 1));
  }
  if (error.cause !== undefined) made.cause = plainCause(error.cause, causes - 1);
  return made;
}

function plainCause(cause: unknown, causes: number): unknown {
  return cause instanceof Error ? plainError(cause, causes) : plain(cause, maxDepth);
}

/**
 * Returns a function that takes a line of JSON and gives it back without secrets:
 * the values of fields with a telling name, values of `secrets` wherever they occur in
 * text (also escaped or in a URL), and what looks like a credential. Only a line in
 * which there may be one is taken apart.
 */
export function cleaner(secrets: () => ReadonlySet<string>): (line: string) => string {
  const forms = new Map<string, readonly string[]>();
  const formsOf = (secret: string) => {
    let found = forms.get(secret);
    if (found === undefined) {
      found = [...new Set([secret, escaped(secret), encodeURIComponent(secret.toWellFormed())])];
      forms.set(secret, found);
    }
    return found;
  };
  return (line) => {
    const found: string[] = [];
    for (const secret of secrets()) {
      if (secret.length < minSecretLength) continue;
      for (const form of formsOf(secret)) if (line.includes(escaped(form))) found.push(form);
    }
    if (found.length === 0 && !secretName.test(line) && line.search(secretText) === -1) return line;
    // The longest first: one secret may be a part of another.
    found.sort((a, b) => b.length - a.length);
    return `${JSON.stringify(clean(JSON.parse(line), found))}\n`;
  };
}

function clean(value: unknown, found: readonly string[]): unknown {
  if (typeof value === "string") return cleanText(value, found);
  if (Array.isArray(value)) return value.map((item) => clean(item, found));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, holdsSecret(key, item) ? redacted : clean(item, found)]),
  );
}

function holdsSecret(key: string, value: unknown): boolean {
  return secretName.test(key) && value !== null && value !== "" && typeof value !== "boolean";
}

function cleanText(text: string, found: readonly string[]): string {
  const without = found.reduce((rest, secret) => rest.replaceAll(secret, redacted), text);
  return without.replace(secretText, (_all, ...groups: (string | undefined)[]) => {
    const kept = groups.slice(0, 3).find((group) => group !== undefined) ?? "";
    return `${kept}${redacted}`;
  });
}

function escaped(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
