/** The shape of `kind: Configuration`, whole, as Dapr 1.18 has it. */
import * as z from "zod";
import { choice, flag, goDurationMs, integer, text } from "../fields.ts";
import { nameValue } from "../name-value.ts";
import { header } from "../resource.ts";

const pipeline = z.object({
  handlers: z
    .array(
      z.object({
        name: text(),
        type: text(),
        version: text().optional(),
        selector: z
          .object({ fields: z.array(z.object({ field: text(), value: text() })).default([]) })
          .optional(),
      }),
    )
    .default([]),
});

const samplingRate = text().transform((value, context) => {
  const rate = value.trim() === "" ? Number.NaN : Number(value);
  if (rate >= 0 && rate <= 1) return rate;
  context.addIssue({ code: "custom", message: "expected a number from 0 to 1" });
  return z.NEVER;
});

const tracing = z.object({
  samplingRate: samplingRate.optional(),
  stdout: flag().default(false),
  zipkin: z.object({ endpointAddress: text() }).optional(),
  otel: z
    .object({
      endpointAddress: text(),
      protocol: choice("grpc", "http"),
      isSecure: flag().default(true),
      headers: z.array(nameValue).default([]),
      timeout: goDurationMs().optional(),
    })
    .optional(),
});

const buckets = z.array(integer(0, Number.MAX_SAFE_INTEGER)).optional();

const metrics = z.object({
  enabled: flag().optional(),
  rules: z
    .array(
      z.object({
        name: text(),
        labels: z.array(z.object({ name: text(), regex: z.record(z.string(), text()) })).default([]),
      }),
    )
    .optional(),
  latencyDistributionBuckets: buckets,
  recordErrorCodes: flag().optional(),
  http: z
    .object({
      increasedCardinality: flag().optional(),
      pathMatching: z.array(text()).optional(),
      excludeVerbs: flag().optional(),
    })
    .optional(),
  workflow: z.object({ latencyDistributionBuckets: buckets, units: text().optional() }).optional(),
});

const accessControl = z.object({
  defaultAction: choice("allow", "deny"),
  trustDomain: text().optional(),
  policies: z
    .array(
      z.object({
        appId: text(),
        defaultAction: choice("allow", "deny"),
        trustDomain: text().optional(),
        namespace: text().optional(),
        operations: z
          .array(
            z.object({
              name: text(),
              httpVerb: z.array(text()).optional(),
              action: choice("allow", "deny"),
            }),
          )
          .default([]),
      }),
    )
    .default([]),
});

const apiRules = z
  .array(z.object({ name: text(), version: text().optional(), protocol: choice("http", "grpc") }))
  .default([]);

/** The fields of `spec`. Later files replace them one by one, each as a whole. */
export const configurationSpec = z.object({
  tracing: tracing.optional(),
  metric: metrics.optional(),
  metrics: metrics.optional(),
  logging: z
    .object({
      apiLogging: z
        .object({
          enabled: flag().default(false),
          obfuscateURLs: flag().default(false),
          omitHealthChecks: flag().default(false),
        })
        .optional(),
    })
    .optional(),
  components: z.object({ deny: z.array(text()).default([]) }).optional(),
  accessControl: accessControl.optional(),
  api: z.object({ allowed: apiRules, denied: apiRules }).optional(),
  secrets: z
    .object({
      scopes: z
        .array(
          z.object({
            storeName: text(),
            defaultAccess: choice("allow", "deny"),
            allowedSecrets: z.array(text()).default([]),
            deniedSecrets: z.array(text()).default([]),
          }),
        )
        .default([]),
    })
    .optional(),
  httpPipeline: pipeline.optional(),
  appHttpPipeline: pipeline.optional(),
  mtls: z
    .object({
      enabled: flag().optional(),
      workloadCertTTL: goDurationMs().optional(),
      allowedClockSkew: goDurationMs().optional(),
      sentryAddress: text().optional(),
      controlPlaneTrustDomain: text().optional(),
      tokenValidators: z
        .array(z.object({ name: text(), options: z.record(z.string(), z.unknown()).optional() }))
        .optional(),
    })
    .optional(),
  nameResolution: z
    .object({
      component: text(),
      version: text().optional(),
      configuration: z.unknown().optional(),
    })
    .optional(),
  features: z.array(z.object({ name: text(), enabled: flag() })).optional(),
  wasm: z.object({ strictSandbox: flag().optional() }).optional(),
  workflow: z
    .object({
      maxConcurrentWorkflowInvocations: integer(0, 2 ** 31 - 1).optional(),
      maxConcurrentActivityInvocations: integer(0, 2 ** 31 - 1).optional(),
      // Newer versions of Dapr add limits here; none of them is used.
    })
    .catchall(z.unknown())
    .optional(),
});

/** `spec`, read. */
export type ConfigurationSpec = z.output<typeof configurationSpec>;

/** A Configuration document. */
export const configurationShape = z.object({ ...header, spec: configurationSpec.default({}) });
