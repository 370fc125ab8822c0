/**
 * Values that are encrypted in the store, as Dapr writes them: AES-GCM with a random nonce before it, in base64, then
 * `||` and the name of the key. Keys, metadata and media types stay readable.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { Call, ErrorClass } from "../call.ts";
import { type Connection, throughWrapper } from "../connection.ts";
import type {
  Item,
  ListPage,
  ListRange,
  StateDriver,
  StateSupports,
  WatchBatch,
  WatchSelector,
  Write,
} from "./driver.ts";
import type { StateSettings } from "./settings.ts";

/** A key, and the name that values say they were encrypted with. */
export interface EncryptionKey {
  readonly name: string;
  /** 16, 24 or 32 bytes. */
  readonly bytes: Uint8Array;
}

/** The first encrypts; all of them decrypt. */
export type EncryptionKeys = readonly [EncryptionKey, ...EncryptionKey[]];

/** The keys of an encrypted store; undefined: it is none. */
export function encryptionKeysOf(settings: StateSettings): EncryptionKeys | undefined {
  const { primaryEncryptionKey: primary, secondaryEncryptionKey: secondary } = settings;
  if (!primary) return undefined;
  const first = { name: settings.primaryEncryptionKeyName!, bytes: primary };
  return secondary ? [first, { name: settings.secondaryEncryptionKeyName!, bytes: secondary }] : [first];
}

const nonceBytes = 12;
const tagBytes = 16;
const separator = "||";

/** A value could not be decrypted. */
export class DecryptionFailed extends Error {
  override readonly name = "DecryptionFailed";
}

/** The same connection, to a driver that encrypts. */
export function encryptedConnection(
  connection: Connection<StateDriver>,
  keys: EncryptionKeys,
): Connection<StateDriver> {
  return throughWrapper(connection, (driver) => new EncryptedDriver(driver, keys));
}

class EncryptedDriver implements StateDriver {
  readonly supports: StateSupports;
  readonly beside?: (key: string, other: string) => string;
  readonly writeEach?: (writes: readonly Write[], call: Call) => Promise<void>;
  /** There where the store has it. It is never called: values that nobody can read cannot be searched. */
  readonly query?: () => Promise<never>;
  readonly maxWrites: number | undefined;
  readonly #driver: StateDriver;
  readonly #cipher: ValueCipher;

  constructor(driver: StateDriver, keys: EncryptionKeys) {
    this.#driver = driver;
    this.#cipher = new ValueCipher(keys);
    // A value is one piece to the cipher, so it must be in memory whole.
    this.supports = { ...driver.supports, chunks: false };
    if (driver.beside) this.beside = driver.beside.bind(driver);
    if (driver.writeEach) this.writeEach = (writes, call) => driver.writeEach!(this.#encrypted(writes), call);
    if (driver.query) this.query = () => Promise.reject(new Error("cannot query encrypted store"));
    this.maxWrites = driver.maxWrites;
  }

  async get(keys: readonly string[], call: Call, maxBytes?: number): Promise<readonly (Item | undefined)[]> {
    const limit = maxBytes === undefined ? undefined : this.#cipher.encryptedBytes(maxBytes, keys.length);
    const items = await this.#driver.get(keys, call, limit);
    return items.map((item) => item && this.#decrypted(item));
  }

  write(writes: readonly Write[], call: Call, needsEtags?: boolean): Promise<readonly string[]> {
    return this.#driver.write(this.#encrypted(writes), call, needsEtags);
  }

  async list(range: ListRange, call: Call): Promise<ListPage> {
    const page = await this.#driver.list!(range, call);
    return { ...page, items: page.items.map((item) => this.#decrypted(item)) };
  }

  async *watch(selector: WatchSelector, call: Call): AsyncGenerator<WatchBatch> {
    for await (const batch of this.#driver.watch!(selector, call)) {
      const changes = batch.changes.map(({ key, item }) => ({ key, item: item && this.#decrypted(item) }));
      yield { ...batch, changes };
    }
  }

  ping(call: Call): Promise<void> {
    return this.#driver.ping(call);
  }

  classify(error: unknown): ErrorClass | undefined {
    return this.#driver.classify(error);
  }

  close(): Promise<void> {
    return this.#driver.close();
  }

  #encrypted(writes: readonly Write[]): readonly Write[] {
    return writes.map((write) =>
      write.kind === "set" ? { ...write, value: this.#cipher.encrypt(write.value) } : write,
    );
  }

  #decrypted(item: Item): Item {
    if (item.value === undefined) return { ...item, valueBytes: this.#cipher.plainBytes(item.valueBytes) };
    const value = this.#cipher.decrypt(item.value);
    return { ...item, value, valueBytes: value.byteLength };
  }
}

/** Encrypts and decrypts values. */
class ValueCipher {
  readonly #primary: EncryptionKey;
  readonly #byName: ReadonlyMap<string, EncryptionKey>;
  readonly #suffix: string;

  constructor(keys: EncryptionKeys) {
    this.#primary = keys[0];
    // Of two with the same name the first counts, as in Dapr.
    this.#byName = new Map(keys.toReversed().map((key) => [key.name, key]));
    this.#suffix = `${separator}${keys[0].name}`;
  }

  encrypt(value: Uint8Array): Uint8Array {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv(algorithmOf(this.#primary), this.#primary.bytes, nonce);
    const sealed = Buffer.concat([nonce, cipher.update(value), cipher.final(), cipher.getAuthTag()]);
    return Buffer.from(sealed.toString("base64") + this.#suffix);
  }

  /** Throws DecryptionFailed. */
  decrypt(stored: Uint8Array): Uint8Array {
    // Nothing is what it was: Dapr has it so for items without a value.
    if (stored.byteLength === 0) return stored;
    const text = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength).toString();
    const at = text.lastIndexOf(separator);
    if (at < 0) throw new DecryptionFailed("the value does not name the key that it is encrypted with");
    const key = this.#byName.get(text.slice(at + separator.length));
    if (!key) throw new DecryptionFailed("the value is encrypted with a key that this store does not have");
    const sealed = Buffer.from(text.slice(0, at), "base64");
    if (sealed.byteLength < nonceBytes + tagBytes) throw new DecryptionFailed("the value is too short");
    const decipher = createDecipheriv(algorithmOf(key), key.bytes, sealed.subarray(0, nonceBytes));
    decipher.setAuthTag(sealed.subarray(-tagBytes));
    try {
      return Buffer.concat([decipher.update(sealed.subarray(nonceBytes, -tagBytes)), decipher.final()]);
    } catch (cause) {
      throw new DecryptionFailed("the value is not what was encrypted with its key", { cause });
    }
  }

  /** What values of so many bytes take in the store, at most. */
  encryptedBytes(plain: number, values: number): number {
    return Math.ceil((plain + values * (nonceBytes + tagBytes + 3)) / 3) * 4 + values * this.#longestSuffix;
  }

  /** How long a value is that takes so much in the store; it may be a few bytes more. */
  plainBytes(stored: number): number {
    const sealed = Math.floor(((stored - this.#suffix.length) / 4) * 3);
    return Math.max(0, sealed - nonceBytes - tagBytes);
  }

  get #longestSuffix(): number {
    return separator.length + Math.max(...[...this.#byName.keys()].map((name) => Buffer.byteLength(name)));
  }
}

function algorithmOf({ bytes }: EncryptionKey): "aes-128-gcm" | "aes-192-gcm" | "aes-256-gcm" {
  const bits = bytes.byteLength * 8;
  return bits === 128 ? "aes-128-gcm" : bits === 192 ? "aes-192-gcm" : "aes-256-gcm";
}
