/** The fields of a state component's `spec.metadata` that every store has, because the block handles them. */
import * as z from "zod";
import { flag, integer, text } from "../../config/fields.ts";
import { prefixViolation } from "./keys.ts";
import { maxTimeToLiveMs } from "./requests.ts";

/** A key of AES in hexadecimal digits; empty text is none. */
const encryptionKey = () =>
  text()
    .transform((value, context) => {
      if (value === "") return undefined;
      if (/^(?:[0-9a-f]{32}|[0-9a-f]{48}|[0-9a-f]{64})$/i.test(value)) return Buffer.from(value, "hex");
      // Without the value: it is a secret.
      context.addIssue({ code: "custom", message: "expected a key of 32, 48 or 64 hexadecimal digits" });
      return z.NEVER;
    })
    .optional();

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
    /** Encrypts values, and decrypts them. It must be a reference to a secret, whose name is stored with each value. */
    primaryEncryptionKey: encryptionKey(),
    primaryEncryptionKeyName: text().optional(),
    /** Decrypts values that were encrypted with it. */
    secondaryEncryptionKey: encryptionKey(),
    secondaryEncryptionKeyName: text().optional(),
    /** The pub/sub component that gets an event for each write of a transaction, if and only if it commits. */
    outboxPublishPubsub: text().optional(),
    /** The topic of these events. */
    outboxPublishTopic: text().optional(),
    /** The pub/sub component on which transactions over Dapr's API are announced, which fail when it does not take that. */
    outboxPubsub: text().optional(),
    /** The topic of these announcements. */
    outboxInternalTopic: text().optional(),
    /** Taken because Dapr's files have it: an event never comes without its state here, so none is discarded. */
    outboxDiscardWhenMissingState: flag().optional(),
  })
  .superRefine((settings, context) => {
    const { outboxPublishPubsub, outboxPublishTopic } = settings;
    for (const field of ["primaryEncryptionKey", "secondaryEncryptionKey"] as const) {
      if (!settings[field] || settings[`${field}Name`]) continue;
      const message = "expected a secretKeyRef: values are stored with the name of the secret";
      context.addIssue({ code: "custom", path: [field], message });
    }
    if (settings.secondaryEncryptionKey && !settings.primaryEncryptionKey) {
      const message = "needs primaryEncryptionKey, which encrypts";
      context.addIssue({ code: "custom", path: ["secondaryEncryptionKey"], message });
    }
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
