/** The shapes of `kind: Subscription`, in its two versions. */
import * as z from "zod";
import { flag, integer, text } from "../fields.ts";
import { scoped } from "../resource.ts";

const common = {
  pubsubname: text(),
  topic: text(),
  deadLetterTopic: text().default(""),
  metadata: z.record(z.string(), text()).default({}),
  bulkSubscribe: z
    .object({
      enabled: flag().default(false),
      maxMessagesCount: integer(0, 2 ** 31 - 1).default(0),
      maxAwaitDurationMs: integer(0, 2 ** 31 - 1).default(0),
    })
    .optional(),
};

/** v1alpha1: one route. */
export const subscriptionV1 = z.object({ ...scoped, spec: z.object({ ...common, route: text() }) });

/** v2alpha1: rules and a default. */
export const subscriptionV2 = z.object({
  ...scoped,
  spec: z.object({
    ...common,
    routes: z
      .object({
        rules: z.array(z.object({ match: text().default(""), path: text() })).default([]),
        default: text().default(""),
      })
      .default({ rules: [], default: "" }),
  }),
});
