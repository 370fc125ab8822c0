/** JSON as Go reads it: names of members in any letter case. Clients, Dapr's SDK for JavaScript among them, and applications rely on it. */
import * as z from "zod";

/** An object whose members may be named in any letter case; `shape` has their names in lower case. */
export const anyCase = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.preprocess(lowerNames, z.object(shape));

/** The member of a name, which is given in lower case; of several the last. Undefined when there is none. */
export function memberOf(members: ReadonlyMap<string, string> | undefined, name: string): string | undefined {
  let found: string | undefined;
  for (const [own, json] of members ?? []) if (own.toLowerCase() === name) found = json;
  return found;
}

/** The same with the names of its members, not of theirs, in lower case. */
export function lowerNames(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name.toLowerCase(), each]));
}
