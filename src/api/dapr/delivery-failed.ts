/** A delivery that an application has not taken, as the policies of its component see it. */
import type { Code } from "@connectrpc/connect";
import type { FailureKinds } from "../../resilience/policy.ts";

/** The status of an application's answer, which `matching` is about: it has one of the two, or none. */
export interface AppStatus {
  readonly httpStatus?: number | undefined;
  readonly code?: Code | undefined;
}

/** It is to be tried again. */
export class DeliveryFailed extends Error {
  override readonly name = "DeliveryFailed";
  readonly httpStatus: number | undefined;
  /** The name is what a gRPC status is looked for by. */
  readonly code: Code | undefined;

  constructor(message: string, { httpStatus, code }: AppStatus = {}) {
    super(message);
    this.httpStatus = httpStatus;
    this.code = code;
  }
}

/** The application was not reached, which says nothing of the event: it waits, and no policy is about it. */
export class AppAway extends Error {
  override readonly name = "AppAway";
}

/** How deliveries fail. */
export const deliveryFailures: FailureKinds = {
  protocol: "grpc",
  httpStatusOf: (error) => (error instanceof DeliveryFailed ? error.httpStatus : undefined),
  isFinal: (error) => error instanceof AppAway,
};
