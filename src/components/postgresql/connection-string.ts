/** Connection strings, as libpq and Dapr take them: a URL, or `name=value` pairs. */

/** The parameters of a connection string, by libpq's names. */
export type Parameters = ReadonlyMap<string, string>;

/** Reads a connection string. Throws an Error that says what is wrong with it, without what is in it. */
export function parseConnectionString(value: string): Parameters {
  return /^postgres(ql)?:\/\//i.test(value.trim()) ? fromUrl(value.trim()) : fromPairs(value);
}

function fromUrl(value: string): Parameters {
  let url: URL;
  try {
    // The scheme of a URL that is not special would leave the host as it is.
    url = new URL(value);
  } catch {
    throw new Error(
      'expected "postgresql://user:password@host:port/database"; special characters in it are percent-encoded',
    );
  }
  const parameters = new Map<string, string>();
  const set = (name: string, text: string) => {
    if (text !== "") parameters.set(name, decode(text));
  };
  set("host", url.hostname.replace(/^\[|\]$/g, ""));
  set("port", url.port);
  set("user", url.username);
  set("password", url.password);
  set("dbname", url.pathname.replace(/^\//, ""));
  for (const [name, text] of url.searchParams) parameters.set(name.toLowerCase(), text);
  return parameters;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error("expected percent-encoding in the URL to be complete");
  }
}

/** `name=value`, separated by spaces; a value in single quotes may have any character, with `\` before `'` and `\`. */
function fromPairs(value: string): Parameters {
  const parameters = new Map<string, string>();
  const pair = /\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)/y;
  const text = value.trim();
  while (pair.lastIndex < text.length) {
    const match = pair.exec(text);
    if (!match)
      throw new Error('expected a URL, or pairs such as "host=localhost user=postgres dbname=orders"');
    parameters.set(match[1]!.toLowerCase(), (match[2] ?? match[3] ?? "").replace(/\\(.)/g, "$1"));
  }
  if (parameters.size === 0) throw new Error("expected a connection string that is not empty");
  return parameters;
}
