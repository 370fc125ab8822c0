import { fault } from "../faults.ts";

/** Names in a message at most, and characters of a name that a client made up. */
const maxListedNames = 20;
const maxShownNameLength = 100;

/**
 * Finds a component by the name in a request. The empty name is the component
 * called `defaultName` or, when there is none of that name, the only one.
 * Throws the fault COMPONENT_NOT_FOUND with the names that there are.
 *
 * @param kind What is looked for, for messages: "state store".
 * @param components By name; read anew for each call, so it may change.
 */
export function resolver<T>(
  kind: string,
  components: ReadonlyMap<string, T>,
  defaultName: string,
): (name: string) => T {
  return (name) => {
    const found = components.get(name === "" ? defaultName : name);
    if (found !== undefined) return found;
    if (name === "" && components.size === 1) {
      for (const only of components.values()) return only;
    }
    throw notFound(kind, name, [...components.keys()]);
  };
}

function notFound(kind: string, name: string, names: readonly string[]) {
  const shown = name.slice(0, maxShownNameLength);
  const listed = names
    .slice(0, maxListedNames)
    .map((each) => `"${each}"`)
    .join(", ");
  const more = names.length > maxListedNames ? " and more" : "";
  const there = names.length === 0 ? "there is none at all" : `there are ${listed}${more}`;
  const wanted =
    name === "" ? `the request names no ${kind}, and none is the default` : `no ${kind} "${shown}"`;
  return fault("COMPONENT_NOT_FOUND", `${wanted}: ${there}`, { metadata: { component: shown } });
}
