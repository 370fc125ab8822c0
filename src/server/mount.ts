/** A service as servers see it: what protobuf says of it, and functions. */
import type { DescService, Message } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { TokenRefusals } from "./authentication.ts";
import type { Limits } from "./limits.ts";
import type { PortName } from "./listening.ts";

/** How one method reads and writes its messages faster than by their descriptors; both ways are optional. */
export interface MethodCodec {
  /** Reads a request. Throws what protobuf-es throws. */
  readonly decode?: (bytes: Uint8Array) => Message;
  /** Writes an answer; undefined leaves it to protobuf-es. */
  readonly encode?: (message: Message) => Uint8Array | undefined;
}

/** A service and who does its work. The same mount can be given to every server. */
export interface Mount {
  readonly service: DescService;
  readonly implementation: Partial<ServiceImpl<DescService>>;
  /** True: served without an API token, where others need one. */
  readonly withoutToken: boolean;
  /** Undefined: what every service tells. */
  readonly tokenRefusals: TokenRefusals | undefined;
  /** By the method's name in the implementation. The gRPC port uses them. */
  readonly codecs: Readonly<Record<string, MethodCodec>>;
}

/** A service that is loaded when it is called first: a large contract takes its time at the start, and memory. */
export interface LateMount {
  /** The service's full name. */
  readonly typeName: string;
  /** All of its methods, as protobuf has them. */
  readonly methodNames: readonly string[];
  /** Each server loads its own: what calls have in common is outside of the mount. Rejects when a file of the program cannot be read; it can be tried again. */
  readonly load: () => Promise<Mount>;
}

/** The service's full name. */
export function serviceName(mounted: Mount | LateMount): string {
  return "load" in mounted ? mounted.typeName : mounted.service.typeName;
}

/** The mount itself, loaded if need be. */
export async function loaded(mounted: Mount | LateMount): Promise<Mount> {
  return "load" in mounted ? await mounted.load() : mounted;
}

/** Makes a mount. Methods that the implementation leaves out answer UNIMPLEMENTED. */
export function mount<S extends DescService>(
  service: S,
  implementation: Partial<ServiceImpl<S>>,
  options: Partial<Pick<Mount, "withoutToken" | "tokenRefusals" | "codecs">> = {},
): Mount {
  return {
    service,
    implementation: implementation as Partial<ServiceImpl<DescService>>,
    withoutToken: options.withoutToken ?? false,
    tokenRefusals: options.tokenRefusals,
    codecs: options.codecs ?? {},
  };
}

/** What every server of mounts is made of. */
export interface ServerOptions {
  /** Where it is listed. Default: what it speaks. */
  readonly name?: PortName;
  /** The address to listen on, such as "127.0.0.1". */
  readonly host: string;
  /** 0 to 65535; 0 takes a free one. */
  readonly port: number;
  readonly mounts: readonly (Mount | LateMount)[];
  /** What differs from `defaultLimits`. */
  readonly limits?: Partial<Limits>;
  readonly telemetry: Telemetry;
  /** Aborts the signal of every open call when it aborts; calls go on for as long as their handlers do. */
  readonly shutdownSignal?: AbortSignal;
  /** When there are any, calls need one of them in `outrider-api-token` or `dapr-api-token`. */
  readonly apiTokens?: readonly string[];
}
