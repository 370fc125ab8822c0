/**
 * JSON as text: parsing it into values and writing those loses digits of numbers, and order and doubles of
 * keys. Until V8 mends it (nodejs/node#63785), JSON.parse even takes the key "k\t" for "k\\" when it has met
 * the latter before.
 */

const quote = 0x22;
const backslash = 0x5c;

/** The same JSON without spaces between its parts, so on one line. Throws what JSON.parse throws. */
export function compactJson(text: string): string {
  JSON.parse(text);
  if (!/[ \t\n\r]/.test(text)) return text;
  let compact = "";
  let from = 0;
  let at = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === quote) at = endOfString(text, at);
    else if (isSpace(code)) {
      compact += text.slice(from, at);
      while (isSpace(text.charCodeAt(at))) at += 1;
      from = at;
    } else at += 1;
  }
  return compact + text.slice(from);
}

/** The members of an object, each value as compact JSON; undefined when it is no object. Throws what JSON.parse throws. */
export function jsonMembers(text: string): Map<string, string> | undefined {
  const compact = compactJson(text);
  if (!compact.startsWith("{")) return undefined;
  const members = new Map<string, string>();
  let at = 1;
  while (compact.charCodeAt(at) === quote) {
    const endOfName = endOfString(compact, at);
    const endOfMember = endOfValue(compact, endOfName + 1);
    const name = compact.slice(at + 1, endOfName - 1);
    members.set(
      name.includes("\\") ? (JSON.parse(`"${name}"`) as string) : name,
      compact.slice(endOfName + 1, endOfMember),
    );
    at = endOfMember + 1;
  }
  return members;
}

/** The elements of an array, each as compact JSON; undefined when it is no array. Throws what JSON.parse throws. */
export function jsonElements(text: string): string[] | undefined {
  const compact = compactJson(text);
  if (!compact.startsWith("[")) return undefined;
  const elements: string[] = [];
  for (let at = 1; at < compact.length - 1; ) {
    const end = endOfValue(compact, at);
    elements.push(compact.slice(at, end));
    at = end + 1;
  }
  return elements;
}

/** After the closing quote of the string that begins here. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; ; at += 1) {
    at = text.indexOf('"', at);
    let backslashes = 0;
    while (text.charCodeAt(at - 1 - backslashes) === backslash) backslashes += 1;
    // Each pair of them is one in the text; an odd one belongs to the quote.
    if (backslashes % 2 === 0) return at + 1;
  }
}

/** At the comma or brace behind the member's value that begins here. */
function endOfValue(compact: string, start: number): number {
  let depth = 0;
  for (let at = start; ; ) {
    switch (compact[at]) {
      case '"':
        at = endOfString(compact, at);
        continue;
      case "{":
      case "[":
        depth += 1;
        break;
      case "}":
      case "]":
        if (depth === 0) return at;
        depth -= 1;
        break;
      case ",":
        if (depth === 0) return at;
        break;
    }
    at += 1;
  }
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;
}
