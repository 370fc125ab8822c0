/** Certificates and keys as YAML names them: PEM as it is, or the path of a file, which may be replaced while it is used. */
import { readFileSync, statSync } from "node:fs";

/** What a connection shows and believes. */
export interface TlsMaterial {
  readonly ca?: Pem | undefined;
  readonly cert?: Pem | undefined;
  readonly key?: Pem | undefined;
}

/** One of them. */
export class Pem {
  readonly #value: string;
  #text = "";
  #changedAtMs = Number.NaN;

  /** Reads it. Throws the operating system's error when it is neither PEM nor a file that can be read. */
  constructor(value: string) {
    this.#value = value.trim();
    if (isPem(this.#value)) this.#text = value;
    else this.#read();
  }

  /** What is in it now. A file that cannot be read any more has what it had: its replacement may be on its way. */
  get text(): string {
    if (isPem(this.#value)) return this.#text;
    try {
      this.#read();
    } catch {
      // The connection says what is wrong, if that is out of date.
    }
    return this.#text;
  }

  #read(): void {
    const { mtimeMs } = statSync(this.#value);
    if (mtimeMs === this.#changedAtMs) return;
    this.#text = readFileSync(this.#value, "utf8");
    this.#changedAtMs = mtimeMs;
  }
}

/** Options for TLS that have their certificates as they are when a connection is made: libraries copy them each time. */
export function withMaterial<T extends object>(
  options: T,
  material: TlsMaterial,
): T & { readonly ca?: string; readonly cert?: string; readonly key?: string } {
  for (const name of ["ca", "cert", "key"] as const) {
    const pem = material[name];
    if (pem)
      Object.defineProperty(options, name, { enumerable: true, configurable: true, get: () => pem.text });
  }
  return options;
}

function isPem(value: string): boolean {
  return value.includes("-----BEGIN");
}
