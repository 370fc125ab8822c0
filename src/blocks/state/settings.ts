/** The fields of a state component's `spec.metadata` that every store has, because the block handles them. */
import * as z from "zod";
import { flag, integer, text } from "../../config/fields.ts";
import { prefixViolation } from "./keys.ts";
import { maxTimeToLiveMs } from "./requests.ts";

/** A field that asks for what cannot be done yet. To pass it over would be to promise it. */
const refused = (why: string) =>
  text()
    .refine((value) => value === "", { error: why })
    .optional();

const noEncryption =
  "values cannot be encrypted yet, and would be stored as plain text: remove the field, or encrypt in the application";
const noOutbox =
  "the transactional outbox does not exist yet, and nothing would be published: remove the field, or publish in the application";

/** The schema of the block's own fields, as Dapr names them. */
export const stateSettings = z.object({
  /** What is put before every key: "appid", "name", "namespace", "none", or any text. */
  keyPrefix: text()
    .refine((value) => prefixViolation(value) === undefined, {
      error: 'expected "appid", "name", "namespace", "none", or text without "||" and control characters',
    })
    .transform((value) => value || "appid")
    .default("appid"),
  /** When items end that say nothing of it, in seconds. 0 or -1, as in Dapr: never. */
  ttlInSeconds: integer(-1, maxTimeToLiveMs / 1000).optional(),
  /** Taken because Dapr's files have it. It has no meaning until there are actors. */
  actorStateStore: flag().optional(),
  primaryEncryptionKey: refused(noEncryption),
  secondaryEncryptionKey: refused(noEncryption),
  outboxPublishPubsub: refused(noOutbox),
  outboxPublishTopic: refused(noOutbox),
  outboxPubsub: refused(noOutbox),
  outboxDiscardWhenMissingState: flag()
    .refine((value) => !value, { error: noOutbox })
    .optional(),
});

/** What the schema makes of the metadata. */
export type StateSettings = z.output<typeof stateSettings>;
