/** Names of tables and functions, checked and quoted. */
import { createHash } from "node:crypto";
import * as z from "zod";
import { text } from "../../config/fields.ts";

/** What PostgreSQL keeps of a name, in bytes. */
const maxNameBytes = 63;

/** A name that may have a schema before it. */
export interface TableName {
  /** Undefined: the first of the search path. */
  readonly schema: string | undefined;
  readonly table: string;
}

const part = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const expected =
  'expected up to 63 letters, digits and underscores, no digit first, with or without "schema." before it';

/** A field that names a table: `table` or `schema.table`. */
export function tableName() {
  return text()
    .refine((value) => value.split(".").length <= 2 && value.split(".").every((each) => part.test(each)), {
      message: expected,
    })
    .transform(toTableName);
}

/** A field that names a schema. */
export function schemaName() {
  return text().refine((value) => part.test(value), {
    message: "expected up to 63 letters, digits and underscores, no digit first",
  });
}

/** A field that is put before the names of tables: "", `prefix` or `schema.prefix`. */
export function tablePrefix() {
  return text().transform((value, context): TableName => {
    const { schema, table } = toTableName(value);
    if ((schema === undefined || part.test(schema)) && (table === "" || part.test(table)))
      return { schema, table };
    context.addIssue({ code: "custom", message: expected });
    return z.NEVER;
  });
}

function toTableName(value: string): TableName {
  const dot = value.indexOf(".");
  if (dot < 0) return { schema: undefined, table: value };
  return { schema: value.slice(0, dot), table: value.slice(dot + 1) };
}

/** Quotes a name. Dapr does not quote, so what is written with capitals is without them there, and here. */
export function quoted(name: string): string {
  return `"${name.toLowerCase().replaceAll('"', '""')}"`;
}

/** `table` with something after it; shortened when PostgreSQL would cut it, so that it stays another for every table. */
export function derived(table: string, suffix: string): string {
  const name = `${table}_${suffix}`;
  if (name.length <= maxNameBytes) return name;
  const hash = createHash("sha256").update(table).digest("hex").slice(0, 12);
  return `${table.slice(0, maxNameBytes - suffix.length - hash.length - 2)}_${hash}_${suffix}`;
}
