/** The secret stores that a Component can be. */
import * as z from "zod";
import { flag, text } from "./fields.ts";

/** The secret store types of this build, and the schemas of their `spec.metadata`. */
export const secretStoreTypes = {
  "secretstores.local.file": z.object({
    secretsFile: text(),
    nestedSeparator: text().default(":"),
    multiValued: flag().default(false),
  }),
  "secretstores.local.env": z.object({ prefix: text().default("") }),
} as const;

/** What the schema makes of the metadata of a file. */
export type FileStoreSettings = z.output<(typeof secretStoreTypes)["secretstores.local.file"]>;
