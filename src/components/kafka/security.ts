/** Encryption and authentication of connections, whichever client library makes them. */
import { readFile, stat } from "node:fs/promises";
import type { SecureContextOptions } from "node:tls";
import { KafkaError } from "./errors.ts";
import type { SaslSettings } from "./sasl.ts";

/** What a connection needs to know. */
export interface Connecting {
  /** The TLS options for a new connection, read again when files have changed; undefined: no TLS. */
  tls(): Promise<TlsOptions | undefined>;
  /** What `tls` gave last. */
  currentTls(): TlsOptions | undefined;
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

interface Material {
  readonly text: string;
  readonly changedAtMs: number;
}

/** Reads certificates for each new connection: files that were replaced are used from the next one on. */
export class Certificates {
  readonly #settings: TlsSettings;
  readonly #files = new Map<string, Material>();
  #current: TlsOptions | undefined;

  constructor(settings: TlsSettings) {
    this.#settings = settings;
  }

  /** Throws a KafkaError that names the field whose file cannot be read. */
  async read(): Promise<TlsOptions | undefined> {
    const { enabled, caCert, clientCert, clientKey, skipVerify } = this.#settings;
    if (!enabled) return undefined;
    const ca = await this.#pem("caCert", caCert);
    const cert = await this.#pem("clientCert", clientCert);
    const key = await this.#pem("clientKey", clientKey);
    this.#current = {
      rejectUnauthorized: !skipVerify,
      ...(ca === "" ? {} : { ca }),
      ...(cert === "" ? {} : { cert }),
      ...(key === "" ? {} : { key }),
    };
    return this.#current;
  }

  get current(): TlsOptions | undefined {
    return this.#current;
  }

  async #pem(field: string, value: string): Promise<string> {
    if (value === "" || value.includes("-----BEGIN")) return value;
    try {
      const { mtimeMs } = await stat(value);
      const known = this.#files.get(value);
      if (known?.changedAtMs === mtimeMs) return known.text;
      const text = await readFile(value, "utf8");
      this.#files.set(value, { text, changedAtMs: mtimeMs });
      return text;
    } catch (error) {
      throw new KafkaError("unavailable", `${field} is neither PEM nor a file that can be read`, "", error);
    }
  }
}
