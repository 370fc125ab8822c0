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

/** The schema of the block's own fields, as Dapr names them. */
export const stateSettings = z
  .object({
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
    /** The pub/sub component that gets an event for each write of a transaction, if and only if it commits. */
    outboxPublishPubsub: text().optional(),
    /** The topic of these events. */
    outboxPublishTopic: text().optional(),
    /** Taken because Dapr's files have it. Dapr publishes twice, first to this component; here a note in the store does. */
    outboxPubsub: text().optional(),
    /** Taken because Dapr's files have it: an event never comes without its state here, so none is discarded. */
    outboxDiscardWhenMissingState: flag().optional(),
  })
  .superRefine(({ outboxPublishPubsub, outboxPublishTopic }, context) => {
    const [missing, given] = outboxPublishPubsub
      ? ["outboxPublishTopic", outboxPublishTopic]
      : ["outboxPublishPubsub", outboxPublishPubsub];
    if ((outboxPublishPubsub || outboxPublishTopic) && !given) {
      const message = "an outbox needs both outboxPublishPubsub and outboxPublishTopic";
      context.addIssue({ code: "custom", path: [missing!], message });
    }
  });

/** What the schema makes of the metadata. */
export type StateSettings = z.output<typeof stateSettings>;
