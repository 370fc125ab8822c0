import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { expect, onTestFinished } from "vitest";
import { BadRequestSchema, ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { StateService, type WriteRequestSchema } from "../../../gen/outrider/state/v1/state_pb.ts";
import { resolver } from "../../../src/blocks/resolve.ts";
import type { StateDriver } from "../../../src/blocks/state/driver.ts";
import { stateService } from "../../../src/blocks/state/service.ts";
import { type StateSettings, stateSettings } from "../../../src/blocks/state/settings.ts";
import { StateStore } from "../../../src/blocks/state/store.ts";
import { memoryState } from "../../../src/components/memory/state.ts";
import type { Telemetry } from "../../../src/telemetry/telemetry.ts";
import { openContext } from "../../components/open-context.ts";
import { quietTelemetry } from "../../telemetry/quiet-telemetry.ts";

export interface Opened {
  readonly client: Client<typeof StateService>;
  readonly driver: StateDriver;
  readonly store: StateStore;
  readonly service: ReturnType<typeof stateService>;
  readonly telemetry: Telemetry;
}

/** The service on one memory store called "state", of the application "app"; closed after the test. */
export async function openState(
  options: {
    readonly settings?: Record<string, string>;
    readonly maxMessageBytes?: number;
    readonly telemetry?: Telemetry;
    readonly wrap?: (driver: StateDriver) => StateDriver;
  } = {},
): Promise<Opened> {
  const { settings = {}, wrap = (driver) => driver, telemetry = quietTelemetry(), maxMessageBytes } = options;
  const driver = wrap(await openMemory());
  const store = storeOn(driver, stateSettings.parse(settings), telemetry);
  const storeOf = resolver("state store", new Map([["state", store]]), "state");
  const service = stateService(maxMessageBytes === undefined ? { storeOf } : { storeOf, maxMessageBytes });
  const transport = createRouterTransport(({ service: mount }) => mount(StateService, service));
  return { client: createClient(StateService, transport), driver, store, service, telemetry };
}

export async function openMemory(): Promise<StateDriver> {
  const driver = await memoryState.configure(memoryState.schema.parse({}))(openContext());
  onTestFinished(() => driver.close());
  return driver;
}

export function storeOn(
  driver: StateDriver,
  settings: StateSettings = stateSettings.parse({}),
  telemetry: Telemetry = quietTelemetry(),
  component = "state",
): StateStore {
  const connection = { component, type: "state.in-memory", current: () => driver, ready: async () => driver };
  return new StateStore({ connection, settings, telemetry, appId: "app" });
}

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
export const textOf = (value: Uint8Array | undefined): string | undefined =>
  value && new TextDecoder().decode(value);

/** The error that a call gives: its code, reason, metadata, and the fields at fault. */
export async function failureOf(answer: Promise<unknown>) {
  const error = await answer.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ConnectError);
  const failure = error as ConnectError;
  const info = failure.findDetails(ErrorInfoSchema)[0];
  const fields = failure
    .findDetails(BadRequestSchema)
    .flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
  return {
    code: Code[failure.code],
    reason: info?.reason,
    metadata: info?.metadata,
    fields,
    message: failure.rawMessage,
  };
}

/** Expects INVALID_REQUEST that names exactly these fields. */
export async function expectInvalid(answer: Promise<unknown>, ...fields: string[]): Promise<void> {
  const failure = await failureOf(answer);
  expect(failure).toMatchObject({ code: "InvalidArgument", reason: "INVALID_REQUEST", fields });
}

/** Reads a stream to its end. */
export async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

export async function* requests(
  ...parts: MessageInitShape<typeof WriteRequestSchema>["part"][]
): AsyncGenerator<MessageInitShape<typeof WriteRequestSchema>> {
  for (const part of parts) yield part === undefined ? {} : { part };
}
