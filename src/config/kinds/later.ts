/** The shapes of the kinds that are checked and not used yet: Resiliency, HTTPEndpoint, MCPServer, WorkflowAccessPolicy. */
import type { ZodType } from "zod";
import * as z from "zod";
import { parseStatusCodes } from "../../resilience/status-codes.ts";
import { compileTrip } from "../../resilience/trip.ts";
import { choice, flag, goDurationMs, integer, text } from "../fields.ts";
import { nameValue, secretKeyRef } from "../name-value.ts";
import { scoped } from "../resource.ts";

const count = integer(0, 2 ** 31 - 1);
const policy = { timeout: text(), retry: text(), circuitBreaker: text() };
const policies = z.object(policy).partial();

/** Codes and ranges of them; undefined for empty text. */
function statusCodes(least: number, most: number) {
  return text().transform((value, context) => {
    if (value.trim() === "") return undefined;
    const codes = parseStatusCodes(value, [least, most]);
    if (codes) return codes;
    const message = `expected codes and ranges of them from ${least} to ${most}, such as "${least},${least + 1}-${least + 3}"`;
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  });
}

/** A condition over what a circuit breaker counts; undefined for empty text. */
const trip = text().transform((value, context) => {
  if (value.trim() === "") return undefined;
  try {
    return compileTrip(value);
  } catch (error) {
    const said = (error as { summary?: string }).summary ?? (error as Error).message;
    context.addIssue({ code: "custom", message: `expected a condition in CEL: ${said}` });
    return z.NEVER;
  }
});

/** Resiliency, of which the components' part is used: see `resiliency.ts`. */
export const resiliency = z.object({
  ...scoped,
  spec: z.object({
    policies: z
      .object({
        timeouts: z.record(z.string(), goDurationMs()).default({}),
        retries: z
          .record(
            z.string(),
            z.object({
              policy: choice("constant", "exponential"),
              duration: goDurationMs().optional(),
              maxInterval: goDurationMs().optional(),
              maxRetries: integer(-1, 2 ** 31 - 1).optional(),
              matching: z
                .object({
                  httpStatusCodes: statusCodes(100, 599).optional(),
                  gRPCStatusCodes: statusCodes(0, 16).optional(),
                })
                .optional(),
            }),
          )
          .default({}),
        circuitBreakers: z
          .record(
            z.string(),
            z.object({
              maxRequests: count.optional(),
              interval: goDurationMs().optional(),
              timeout: goDurationMs().optional(),
              trip: trip.optional(),
            }),
          )
          .default({}),
      })
      .optional(),
    targets: z
      .object({
        apps: z
          .record(z.string(), policies.extend({ circuitBreakerCacheSize: count.optional() }))
          .default({}),
        actors: z
          .record(
            z.string(),
            policies.extend({
              circuitBreakerScope: choice("type", "id", "both"),
              circuitBreakerCacheSize: count.optional(),
            }),
          )
          .default({}),
        components: z
          .record(
            z.string(),
            policies.extend({ inbound: policies.optional(), outbound: policies.optional() }),
          )
          .default({}),
      })
      .optional(),
  }),
});

const reference = z.object({
  value: z.unknown().optional(),
  secretKeyRef: secretKeyRef.optional(),
  envRef: text().optional(),
});

const httpEndpoint = z.object({
  ...scoped,
  auth: z.object({ secretStore: text() }).optional(),
  spec: z.object({
    baseUrl: text(),
    headers: z.array(nameValue).default([]),
    clientTLS: z
      .object({
        rootCA: reference.optional(),
        certificate: reference.optional(),
        privateKey: reference.optional(),
        renegotiation: choice("RenegotiateNever", "RenegotiateOnceAsClient", "RenegotiateFreelyAsClient"),
      })
      .optional(),
  }),
});

const mcpHttp = z.object({
  url: text(),
  headers: z.array(nameValue).default([]),
  protocolVersion: text().optional(),
  timeout: goDurationMs().optional(),
  auth: z
    .object({
      secretStore: text().optional(),
      oauth2: z
        .object({
          issuer: text(),
          clientID: text().optional(),
          audience: text().optional(),
          scopes: z.array(text()).optional(),
          secretKeyRef: secretKeyRef.optional(),
        })
        .optional(),
      spiffe: z
        .object({
          jwt: z
            .object({ audience: text(), header: text(), headerValuePrefix: text().optional() })
            .optional(),
        })
        .optional(),
    })
    .optional(),
});

const hooks = z
  .array(
    z.object({
      workflow: z.object({ workflowName: text(), appID: text().optional() }),
      mutate: flag().optional(),
    }),
  )
  .optional();

const mcpServer = z.object({
  ...scoped,
  spec: z.object({
    endpoint: z
      .object({
        streamableHTTP: mcpHttp.optional(),
        sse: mcpHttp.optional(),
        stdio: z
          .object({
            command: text(),
            args: z.array(text()).default([]),
            env: z.array(nameValue).default([]),
          })
          .optional(),
      })
      .refine((endpoint) => Object.values(endpoint).filter((each) => each !== undefined).length === 1, {
        error: "expected exactly one of streamableHTTP, sse and stdio",
      }),
    middleware: z
      .object({
        beforeCallTool: hooks,
        afterCallTool: hooks,
        beforeListTools: hooks,
        afterListTools: hooks,
      })
      .optional(),
    catalog: z
      .object({
        displayName: text().optional(),
        description: text().optional(),
        owner: z.object({ team: text().optional(), contact: text().optional() }).optional(),
        tags: z.array(text()).optional(),
        links: z.record(z.string(), text()).optional(),
      })
      .optional(),
  }),
});

const action = z.enum(["allow", "deny"]);
const operation = z.enum(["schedule", "terminate", "raise", "pause", "resume", "purge", "get", "rerun"]);

const workflowAccessPolicy = z.object({
  ...scoped,
  spec: z.object({
    defaultAction: choice("allow", "deny"),
    rules: z
      .array(
        z
          .object({
            callers: z.array(z.object({ appID: text() })).min(1),
            workflows: z
              .array(z.object({ name: text(), operations: z.array(operation).min(1), action }))
              .default([]),
            activities: z.array(z.object({ name: text(), action })).default([]),
          })
          .refine((rule) => rule.workflows.length + rule.activities.length > 0, {
            error: "expected at least one of workflows and activities",
          }),
      )
      .default([]),
  }),
});

/** A kind whose documents are checked only. */
export type LaterKind = "Resiliency" | "HTTPEndpoint" | "MCPServer" | "WorkflowAccessPolicy";

/** A schema for each. */
export const laterKinds: Readonly<Record<LaterKind, ZodType<{ readonly scopes: readonly string[] }>>> = {
  Resiliency: resiliency,
  HTTPEndpoint: httpEndpoint,
  MCPServer: mcpServer,
  WorkflowAccessPolicy: workflowAccessPolicy,
};
