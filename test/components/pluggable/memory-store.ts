/** A store in memory as a pluggable component within a test. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  StateOptions_StateConcurrency as Concurrency,
  type DeleteRequest,
  type SetRequest,
} from "../../../gen/dapr/proto/components/v1/state_pb.ts";
import { BadRequestSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import type { Services } from "./node-component.ts";

interface Kept {
  readonly data: Uint8Array;
  readonly etag: { readonly value: string };
  readonly metadata: Record<string, string>;
}

/** The properties that a store was initialized with, each time. */
export type Told = Readonly<Record<string, string>>[];

/** All services of a store; `features` is what it says of itself. */
export function memoryStore(features: readonly string[], told: Told = []): Services {
  const items = new Map<string, Kept>();
  const find = (key: string) => {
    const item = items.get(key);
    const expires = item?.metadata["ttlExpireTime"];
    return expires !== undefined && Date.parse(expires) <= Date.now() ? undefined : item;
  };
  const check = ({ key, etag, options }: SetRequest | DeleteRequest) => {
    const item = find(key);
    const first = options?.concurrency === Concurrency.CONCURRENCY_FIRST_WRITE;
    if (etag ? item?.etag.value !== etag.value : first && item) throw etagError();
  };
  const set = (request: SetRequest) => {
    check(request);
    const seconds = Number(request.metadata["ttlInSeconds"] ?? 0);
    const expires = new Date(Date.now() + seconds * 1000).toISOString();
    const metadata: Record<string, string> = seconds > 0 ? { ttlExpireTime: expires } : {};
    items.set(request.key, { data: request.value, etag: { value: randomUUID() }, metadata });
    return {};
  };
  const remove = (request: DeleteRequest) => {
    check(request);
    items.delete(request.key);
    return {};
  };
  return {
    state: {
      init: ({ metadata }) => {
        told.push(metadata?.properties ?? {});
        return {};
      },
      features: () => ({ features: [...features] }),
      get: ({ key }) => find(key) ?? {},
      set,
      delete: remove,
      bulkGet: ({ items: asked }) => ({ items: asked.map(({ key }) => ({ key, ...find(key) })).reverse() }),
      bulkSet: ({ items: given }) => {
        for (const each of given) set(each);
        return {};
      },
      bulkDelete: ({ items: given }) => {
        for (const each of given) remove(each);
        return {};
      },
    },
    transactional: {
      transact: ({ operations }) => {
        for (const { request } of operations) if (request.value) check(request.value);
        for (const { request } of operations)
          if (request.case === "set") set(request.value);
          else if (request.case === "delete") remove(request.value);
        return {};
      },
    },
  };
}

function etagError(): ConnectError {
  const value = create(BadRequestSchema, { fieldViolations: [{ field: "etag", description: "another" }] });
  return new ConnectError("etag mismatch", Code.FailedPrecondition, undefined, [
    { desc: BadRequestSchema, value },
  ]);
}
