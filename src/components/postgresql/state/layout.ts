/**
 * The two layouts of Dapr's table of items. Dapr and Outrider work on the same rows: what Dapr has no column for is
 * in one of our own, `outrider`, which counts only while it names the row's etag: when Dapr writes the row, it does not.
 */
import { derived, quoted, type TableName } from "../names.ts";

/** The version in the component's YAML. */
export type LayoutVersion = "v1" | "v2";

/** Where a store keeps what, by quoted names. */
export interface Layout {
  readonly version: LayoutVersion;
  readonly schema: string;
  /** Dapr's table. */
  readonly items: string;
  /** The keys of items that changed, for those who watch. */
  readonly changes: string;
  /** One row: who this store is, and whether somebody watches. */
  readonly about: string;
  /** Values over what goes into a row, in pieces; and those being written. */
  readonly chunks: string;
  readonly blobs: string;
  /** Functions. */
  readonly write: string;
  readonly changed: string;
  readonly renewed: string;
  /** The name of the index by key, without its schema. */
  readonly keyIndex: string;
  readonly expiryIndex: string;
  /** What notifications go to: no more than a name. */
  readonly channel: string;
  /** The columns that differ. */
  readonly etag: string;
  readonly expires: string;
  readonly updated: string;
  /** An item's value as bytes, and how many. */
  readonly value: string;
  readonly bytes: string;
}

/** Names what belongs to a table. `schema` is the one that the table is in, or will be. */
export function layoutOf(version: LayoutVersion, { table }: TableName, schema: string): Layout {
  const within = (suffix: string) => `${quoted(schema)}.${quoted(derived(table, suffix))}`;
  const names = {
    version,
    schema: quoted(schema),
    items: `${quoted(schema)}.${quoted(table)}`,
    changes: within("outrider_changes"),
    about: within("outrider_about"),
    chunks: within("outrider_chunks"),
    blobs: within("outrider_blobs"),
    write: within("outrider_write"),
    changed: within("outrider_changed"),
    renewed: within("outrider_renewed"),
    keyIndex: quoted(derived(table, "outrider_key")),
    expiryIndex: quoted(derived(table, "outrider_expiry")),
    channel: derived(`${schema}_${table}`.toLowerCase(), "outrider"),
  };
  if (version === "v2") {
    return {
      ...names,
      etag: "etag",
      expires: "expires_at",
      updated: "updated_at",
      value: "value",
      bytes: "octet_length(value)",
    };
  }
  const own = "outrider ->> 'etag' = outrider_etag::text AND outrider ->> 'text' IS NOT NULL";
  const value = `CASE WHEN isbinary THEN decode(value #>> '{}', 'base64')
    WHEN ${own} THEN convert_to(outrider ->> 'text', 'UTF8') ELSE convert_to(value::text, 'UTF8') END`;
  return {
    ...names,
    etag: "outrider_etag",
    expires: "expiredate",
    updated: "updatedate",
    value: `(${value})`,
    bytes: `octet_length(${value})`,
  };
}
