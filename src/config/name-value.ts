/** The shape of a value that is written out, or referred to. */
import * as z from "zod";
import { text } from "./fields.ts";

/** Refers to a field of a secret. Without a key, the field with the secret's name. */
export const secretKeyRef = z.object({ name: text().default(""), key: text().default("") });

/** An item of `spec.metadata`, and of the lists of headers and variables of other kinds. */
export const nameValue = z.object({
  name: text(),
  value: z.unknown().optional(),
  secretKeyRef: secretKeyRef.optional(),
  envRef: text().default(""),
});

/** What the shape makes of it. */
export type NameValue = z.output<typeof nameValue>;
