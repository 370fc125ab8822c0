/** Finds what is at a path: a tree of its segments, for each method. */

/** What was found. */
export interface Found<T> {
  readonly value: T;
  /** By name, decoded; `*` has the rest of the path. */
  readonly params: Readonly<Record<string, string>>;
}

interface Place<T> {
  /** By segment, as paths have it. */
  readonly written: Map<string, Place<T>>;
  /** Any segment that is not empty. */
  param: Place<T> | undefined;
  /** Here the path ends. */
  end: Leaf<T> | undefined;
  /** Whatever follows, and be it empty. */
  rest: Leaf<T> | undefined;
}

interface Leaf<T> {
  readonly value: T;
  /** In the order of the path. */
  readonly names: readonly string[];
}

/** What is written comes before parameters, and those before `*`; where one leads nowhere, the next is tried. */
export class RouteTree<T> {
  readonly #roots = new Map<string, Place<T>>();

  /** Puts a value at a path such as `/state/:store/:key`; `*` as the last segment takes the rest. Throws where one is. */
  add(method: string, path: string, value: T): void {
    let place = this.#roots.get(method) ?? newPlace<T>();
    this.#roots.set(method, place);
    const names: string[] = [];
    for (const segment of segmentsOf(path)) {
      if (segment === "*" || segment.startsWith(":")) names.push(segment.replace(/^:/, ""));
      if (segment === "*") {
        if (place.rest) throw new Error(`there are two routes ${method} ${path}`);
        place.rest = { value, names };
        return;
      }
      place = segment.startsWith(":") ? paramOf(place) : writtenOf(place, segment);
    }
    if (place.end) throw new Error(`there are two routes ${method} ${path}`);
    place.end = { value, names };
  }

  /** What is at a path, which may be percent-encoded; undefined for nothing, and for paths that cannot be decoded. */
  find(method: string, path: string): Found<T> | undefined {
    const root = this.#roots.get(method);
    if (!root || !path.startsWith("/")) return undefined;
    let segments: string[];
    try {
      segments = segmentsOf(path).map(decodeURIComponent);
    } catch {
      return undefined;
    }
    const values: string[] = [];
    const leaf = search(root, segments, 0, values);
    if (!leaf) return undefined;
    return {
      value: leaf.value,
      params: Object.fromEntries(leaf.names.map((name, at) => [name, values[at]!])),
    };
  }
}

/** Leaves the values of the parameters in `values`. */
function search<T>(
  place: Place<T>,
  segments: readonly string[],
  at: number,
  values: string[],
): Leaf<T> | undefined {
  if (at === segments.length) return place.end;
  const segment = segments[at]!;
  const written = place.written.get(segment);
  const found = written && search(written, segments, at + 1, values);
  if (found) return found;
  if (place.param && segment !== "") {
    values.push(segment);
    const leaf = search(place.param, segments, at + 1, values);
    if (leaf) return leaf;
    values.pop();
  }
  if (place.rest) values.push(segments.slice(at).join("/"));
  return place.rest;
}

function segmentsOf(path: string): string[] {
  return path.slice(1).split("/");
}

function newPlace<T>(): Place<T> {
  return { written: new Map(), param: undefined, end: undefined, rest: undefined };
}

function paramOf<T>(place: Place<T>): Place<T> {
  place.param ??= newPlace();
  return place.param;
}

function writtenOf<T>(place: Place<T>, segment: string): Place<T> {
  const next = place.written.get(segment) ?? newPlace<T>();
  place.written.set(segment, next);
  return next;
}
