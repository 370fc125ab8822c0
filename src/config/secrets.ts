/** Where secret references lead: the two local secret stores, and the environment. */
import { readText } from "./files.ts";
import type { FileStoreSettings } from "./secret-store-types.ts";
import { didYouMean } from "./suggest.ts";

/** Variables by name, as a process has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** A value, or why there is none; the reason never has a value in it. */
export type Found = { readonly value: string } | { readonly problem: string };

/** A secret store: secrets by name, each with its fields. Most have one, with the secret's own name. */
export interface SecretStore {
  /** Undefined when there is no such secret. */
  get(name: string): ReadonlyMap<string, string> | undefined;
  names(): Iterable<string>;
  /** True: to applications a secret that is not there is empty, as a variable is that is not set. */
  readonly emptyWhenAbsent?: boolean;
}

/** Which secrets of a store applications may read, as Dapr's `spec.secrets.scopes` has it. */
export interface SecretScope {
  readonly storeName: string;
  /** Undefined: allow. */
  readonly defaultAccess?: "allow" | "deny" | undefined;
  /** Where there are any, no others. */
  readonly allowedSecrets: readonly string[];
  readonly deniedSecrets: readonly string[];
}

/** The runtime's own variables: an application's YAML has no business with its tokens. */
function isBlocked(variable: string): boolean {
  return /^(DAPR_|OUTRIDER_|APP_API_TOKEN$)/i.test(variable);
}

/** The stores of one configuration by component name, and every value that was taken from them. */
export class Secrets {
  /** Values that must not be seen, in logs or anywhere else. Never has "". */
  readonly resolved = new Set<string>();
  readonly #environment: Environment;
  readonly #stores = new Map<string, SecretStore>();
  /** Stores that are declared and could not be read; that has been reported once already. */
  readonly #broken = new Set<string>();

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  /** Those that could be read, by component name. */
  get stores(): ReadonlyMap<string, SecretStore> {
    return this.#stores;
  }

  add(name: string, store: SecretStore | undefined): void {
    if (store) this.#stores.set(name, store);
    else this.#broken.add(name);
  }

  /** The name of the only store; undefined when there are none or several. */
  get only(): string | undefined {
    return this.#stores.size === 1 ? this.#stores.keys().next().value : undefined;
  }

  /** What a `secretKeyRef` refers to; undefined when its store is broken, which is known. */
  find(storeName: string, name: string, key: string): Found | undefined {
    if (this.#broken.has(storeName)) return undefined;
    const store = this.#stores.get(storeName);
    if (!store) {
      const names = [...this.#stores.keys()];
      const known = names.length > 0 ? `there are: ${names.join(", ")}` : "none is declared";
      return { problem: `no secret store "${storeName}"${didYouMean(storeName, names) || `; ${known}`}` };
    }
    const fields = store.get(name);
    if (!fields) return { problem: `no secret "${name}" in the secret store "${storeName}"` };
    const value = fields.get(key || name);
    if (value === undefined) {
      return {
        problem: `no key "${key || name}" in the secret "${name}" of the secret store "${storeName}"`,
      };
    }
    return this.#take(value);
  }

  /** What an `envRef` refers to. */
  variable(name: string): Found {
    if (isBlocked(name)) return { problem: `the environment variable "${name}" is not for components` };
    const value = this.#environment[name];
    if (value === undefined) return { problem: `the environment variable "${name}" is not set` };
    return this.#take(value);
  }

  #take(value: string): Found {
    if (value !== "") this.resolved.add(value);
    return { value };
  }
}

/** secretstores.local.env: variables that begin with the prefix, without it. */
export function environmentStore(prefix: string, environment: Environment): SecretStore {
  const get = (name: string) => {
    const variable = prefix + name;
    const value = isBlocked(variable) ? undefined : environment[variable];
    return value === undefined ? undefined : new Map([[name, value]]);
  };
  const names = () =>
    Object.keys(environment)
      .filter((variable) => variable.startsWith(prefix) && variable !== prefix && !isBlocked(variable))
      .map((variable) => variable.slice(prefix.length));
  return { get, names, emptyWhenAbsent: true };
}

/** secretstores.local.file: a JSON file, read once. Its path is relative to the working directory, as with daprd. */
export async function fileStore(
  settings: FileStoreSettings,
): Promise<SecretStore | { readonly problem: string }> {
  const file = await readText(settings.secretsFile);
  if (typeof file !== "string") return { problem: `"${settings.secretsFile}" ${file.problem}` };
  let content: unknown;
  try {
    content = JSON.parse(file);
  } catch {
    // The parser's message quotes what it read, which is secret.
    return { problem: `"${settings.secretsFile}" is not JSON` };
  }
  if (!isObject(content)) return { problem: `"${settings.secretsFile}" must be a JSON object` };
  return settings.multiValued ? severalValues(content, settings) : oneValue(content, settings);
}

/** Each leaf is a secret; its name is the way to it. */
function oneValue(content: object, { nestedSeparator }: { nestedSeparator: string }): SecretStore {
  const leaves = flatten(content, nestedSeparator);
  const get = (name: string) => {
    const value = leaves.get(name);
    return value === undefined ? undefined : new Map([[name, value]]);
  };
  return { get, names: () => leaves.keys() };
}

/** Each field of the file is a secret, whose leaves are its fields. */
function severalValues(content: object, { nestedSeparator }: { nestedSeparator: string }): SecretStore {
  const secrets = new Map(Object.entries(content));
  const get = (name: string) => {
    const secret: unknown = secrets.get(name);
    if (secret === undefined || secret === null) return undefined;
    return isObject(secret) ? flatten(secret, nestedSeparator) : new Map([[name, String(secret)]]);
  };
  return { get, names: () => secrets.keys() };
}

function flatten(content: object, separator: string): ReadonlyMap<string, string> {
  const leaves = new Map<string, string>();
  // Not recursive: a file can nest more deeply than the stack is high.
  const pending: [string, unknown][] = Object.entries(content);
  for (let next = pending.pop(); next; next = pending.pop()) {
    const [name, value] = next;
    if (isObject(value)) {
      for (const [key, child] of Object.entries(value)) pending.push([`${name}${separator}${key}`, child]);
    } else if (value !== null) leaves.set(name, String(value));
  }
  return leaves;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
