/** Dapr's secrets API over the secret stores of the configuration. */
import type { SecretScope, SecretStore } from "../../config/secrets.ts";
import { DaprError, daprErrors } from "./errors.ts";

/** See the head of this file. */
export class DaprSecrets {
  readonly #stores: ReadonlyMap<string, SecretStore>;
  readonly #scopes: () => readonly SecretScope[];

  /** Both are read anew for each call. */
  constructor(stores: ReadonlyMap<string, SecretStore>, scopes: () => readonly SecretScope[]) {
    this.#stores = stores;
    this.#scopes = scopes;
  }

  /** The fields of a secret: most have one, with its own name. Throws DaprError. */
  get(storeName: string, name: string): ReadonlyMap<string, string> {
    const store = this.#store(storeName);
    if (!this.#mayRead(storeName, name))
      throw new DaprError(
        daprErrors.secretsDenied,
        `access denied by policy to get "${name}" from "${storeName}"`,
      );
    const fields = store.get(name);
    if (fields) return fields;
    if (store.emptyWhenAbsent) return new Map([[name, ""]]);
    const message = `failed getting secret with key ${name} from secret store ${storeName}: secret ${name} not found`;
    throw new DaprError(daprErrors.secretsGet, message);
  }

  /** All secrets that the application may see. Throws DaprError. */
  getBulk(storeName: string): ReadonlyMap<string, ReadonlyMap<string, string>> {
    const store = this.#store(storeName);
    const names = [...store.names()].filter((name) => this.#mayRead(storeName, name));
    return new Map(names.map((name) => [name, store.get(name) ?? new Map()]));
  }

  #store(name: string): SecretStore {
    if (this.#stores.size === 0)
      throw new DaprError(daprErrors.secretsNotConfigured, "secret store is not configured");
    const store = this.#stores.get(name);
    if (!store)
      throw new DaprError(daprErrors.secretsNotFound, `failed finding secret store with key ${name}`);
    return store;
  }

  #mayRead(storeName: string, name: string): boolean {
    const scope = this.#scopes().findLast((each) => each.storeName === storeName);
    if (!scope) return true;
    if (scope.deniedSecrets.includes(name)) return false;
    if (scope.allowedSecrets.length > 0) return scope.allowedSecrets.includes(name);
    return scope.defaultAccess !== "deny";
  }
}
