/** Certificates for servers and clients, from an authority of a test's own. Made by openssl. */
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { oncePerRun } from "./once.ts";
import { serverFolder } from "./run-folder.ts";
import { program } from "./tools.ts";

const run = promisify(execFile);
const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** A certificate and its key: paths of PEM files. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  /** Key and certificate in one file. */
  readonly both: string;
}

/** What the servers of a run have in common. All are paths of PEM files. */
export interface Certificates {
  /** Signs `server` and `client`. */
  readonly ca: string;
  /** For localhost and 127.0.0.1. */
  readonly server: Certificate;
  /** Its name (CN) is alice, a user of every server here. */
  readonly client: Certificate;
  /** As `client`, but it has expired. */
  readonly expired: Certificate;
  /** An authority that no server knows, and a client that it has signed. */
  readonly foreignCa: string;
  readonly foreignClient: Certificate;
}

/** Those of this run. */
export function certificates(): Promise<Certificates> {
  return oncePerRun("certificates", async () => {
    const [own, foreign] = await Promise.all([Authority.make("test-ca"), Authority.make("foreign-ca")]);
    const [server, client, expired, foreignClient] = await Promise.all([
      own.issue("server", "localhost"),
      own.issue("client", "alice"),
      own.issue("expired", "alice", { days: -1 }),
      foreign.issue("client", "alice"),
    ]);
    return { ca: own.ca, server, client, expired, foreignCa: foreign.ca, foreignClient };
  });
}

/** Signs certificates. */
export class Authority {
  /** The path of its own certificate. */
  readonly ca: string;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.ca = join(folder, "ca.crt");
  }

  static async make(name: string): Promise<Authority> {
    const authority = new Authority(serverFolder("tls"));
    const self = ["-x509", "-days", "30", "-subj", `/CN=${name}`, "-keyout", "ca.key", "-out", "ca.crt"];
    const uses = [
      "-addext",
      "basicConstraints=critical,CA:TRUE",
      "-addext",
      "keyUsage=critical,keyCertSign,cRLSign",
    ];
    await authority.#openssl("req", ...self, ...curve, ...uses);
    return authority;
  }

  /** A certificate for localhost, 127.0.0.1 and a name. The same file name again replaces what was there. */
  async issue(file: string, name: string, options: { readonly days?: number } = {}): Promise<Certificate> {
    const at = (suffix: string) => join(this.#folder, `${file}.${suffix}`);
    await this.#openssl("req", ...curve, "-subj", `/CN=${name}`, "-keyout", at("key"), "-out", at("csr"));
    const extensions = [
      "subjectAltName=DNS:localhost,IP:127.0.0.1",
      "extendedKeyUsage=serverAuth,clientAuth",
    ];
    await writeFile(at("ext"), `${extensions.join("\n")}\n`);
    const signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", String(Date.now() * 1000 + serial())];
    const validity = ["-days", String(options.days ?? 30), "-extfile", at("ext")];
    await this.#openssl("x509", "-req", "-in", at("csr"), ...signed, ...validity, "-out", at("crt"));
    const { stdout: both } = await run("cat", [at("key"), at("crt")]);
    await writeFile(at("pem"), both);
    return { cert: at("crt"), key: at("key"), both: at("pem") };
  }

  async #openssl(...words: readonly string[]): Promise<void> {
    await run(program("openssl"), words, { cwd: this.#folder });
  }
}

function serial(): number {
  return Math.floor(Math.random() * 1000);
}
