/** Encryption and authentication of connections, whichever client library makes them. */
import type { SecureContextOptions } from "node:tls";
import { Pem, withMaterial } from "../pem.ts";
import { KafkaError } from "./errors.ts";
import type { SaslSettings } from "./sasl.ts";

/** What a connection needs to know. */
export interface Connecting {
  /** The TLS options, to be copied for each connection; undefined: no TLS. */
  readonly tls: TlsOptions | undefined;
  /** How to authenticate; undefined: not at all. */
  sasl(): SaslSettings | undefined;
}

/** For tls.connect. */
export interface TlsOptions extends SecureContextOptions {
  readonly rejectUnauthorized: boolean;
}

/** Where certificates come from: PEM, or the path of a file with it; "" for none. */
export interface TlsSettings {
  readonly enabled: boolean;
  readonly caCert: string;
  readonly clientCert: string;
  readonly clientKey: string;
  readonly skipVerify: boolean;
}

/** The TLS options for connections; files that were replaced are used from the next one on. Throws a KafkaError that names the field whose file cannot be read. */
export function tlsOptionsOf({
  enabled,
  caCert,
  clientCert,
  clientKey,
  skipVerify,
}: TlsSettings): TlsOptions | undefined {
  if (!enabled) return undefined;
  return withMaterial(
    { rejectUnauthorized: !skipVerify },
    {
      ca: pemOf("caCert", caCert),
      cert: pemOf("clientCert", clientCert),
      key: pemOf("clientKey", clientKey),
    },
  );
}

function pemOf(field: string, value: string): Pem | undefined {
  if (value === "") return undefined;
  try {
    return new Pem(value);
  } catch (error) {
    throw new KafkaError("unavailable", `${field} is neither PEM nor a file that can be read`, "", error);
  }
}
