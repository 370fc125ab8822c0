/** Why Go cannot put a JSON value into one of its types, in the words of encoding/json: Dapr's answers have them. */

/** A type of Go, as far as its complaints tell of it. */
export type GoType =
  | { readonly kind: "any" }
  | { readonly kind: "string" | "int" }
  /** With strings. */
  | { readonly kind: "map" }
  | { readonly kind: "slice"; readonly of: GoType }
  | {
      readonly kind: "struct";
      readonly name: string;
      readonly package: string;
      readonly fields: Readonly<Record<string, GoType>>;
    };

const text = { kind: "string" } as const;
const anything = { kind: "any" } as const;
const texts = { kind: "map" } as const;

const setRequest: GoType = {
  kind: "struct",
  name: "SetRequest",
  package: "state",
  fields: {
    key: text,
    value: anything,
    etag: text,
    metadata: texts,
    options: {
      kind: "struct",
      name: "SetStateOption",
      package: "state",
      fields: { concurrency: text, consistency: text },
    },
    contentType: text,
  },
};

/** The bodies of Dapr's HTTP API. */
export const goBodies = {
  save: { kind: "slice", of: setRequest },
  bulkGet: {
    kind: "struct",
    name: "BulkGetRequest",
    package: "http",
    fields: { metadata: texts, keys: { kind: "slice", of: text }, parallelism: { kind: "int" } },
  },
  transaction: {
    kind: "struct",
    name: "stateTransactionRequestBody",
    package: "http",
    fields: {
      operations: {
        kind: "slice",
        of: {
          kind: "struct",
          name: "stateTransactionRequestBodyOperation",
          package: "http",
          fields: { operation: text, request: anything },
        },
      },
      metadata: texts,
    },
  },
  bulkPublish: {
    kind: "slice",
    of: {
      kind: "struct",
      name: "bulkPublishMessageEntry",
      package: "http",
      fields: { entryId: text, event: anything, contentType: text, metadata: texts },
    },
  },
} as const satisfies Record<string, GoType>;

/** What Go says of the first value that does not fit; undefined: all fit. Names of members may be in any letter case. */
export function goMismatch(value: unknown, type: GoType): string | undefined {
  return mismatch(value, type, "value");
}

/** `where` is "value", or "struct field" with the struct and the names on the way. */
function mismatch(value: unknown, type: GoType, where: string, path = ""): string | undefined {
  if (value === null || value === undefined || type.kind === "any") return undefined;
  const found = kindOf(value);
  const refusal = (what: string = found) =>
    `json: cannot unmarshal ${what} into Go ${where} of type ${nameOf(type)}`;
  switch (type.kind) {
    case "string":
      return found === "string" ? undefined : refusal();
    case "int":
      if (found !== "number") return refusal();
      return Number.isInteger(value) ? undefined : refusal(`number ${value}`);
    case "map":
      if (found !== "object") return refusal();
      return first(Object.values(value), (each) => mismatch(each, text, where, path));
    case "slice":
      if (!Array.isArray(value)) return refusal();
      return first(value, (each) => mismatch(each, type.of, where, path));
    case "struct":
      if (found !== "object") return refusal();
      return first(Object.entries(value), ([given, each]) => {
        const name = Object.keys(type.fields).find((one) => one.toLowerCase() === given.toLowerCase());
        if (name === undefined) return undefined;
        const below = path === "" ? name : `${path}.${name}`;
        return mismatch(each, type.fields[name]!, `struct field ${type.name}.${below}`, below);
      });
  }
}

function first<Each>(all: readonly Each[], of: (each: Each) => string | undefined): string | undefined {
  for (const each of all) {
    const found = of(each);
    if (found !== undefined) return found;
  }
  return undefined;
}

function nameOf(type: GoType): string {
  switch (type.kind) {
    case "map":
      return "map[string]string";
    case "slice":
      return `[]${nameOf(type.of)}`;
    case "struct":
      return `${type.package}.${type.name}`;
    default:
      return type.kind;
  }
}

function kindOf(value: unknown): "array" | "object" | "string" | "number" | "bool" {
  if (Array.isArray(value)) return "array";
  const kind = typeof value;
  if (kind === "boolean") return "bool";
  return kind as "object" | "string" | "number";
}
