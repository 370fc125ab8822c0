/** Makes connections: what pg is given, so that it reads neither the environment nor files on its own. */
import type { Client, ClientConfig, Pool } from "pg";
import type { Endpoint, Tls } from "./connection-fields.ts";
import { tlsChoices } from "./connection-fields.ts";
import { asPostgresError } from "./errors.ts";

type Pg = typeof import("pg")["default"];

/** int8 in PostgreSQL's table of types. Ours stay below 2^53. */
const int8 = 20;

/** Makes clients and pools for one endpoint. */
export class Clients {
  /** For errors: where the server is, without secrets. */
  readonly server: string;
  readonly #pg: Pg;
  readonly #endpoint: Endpoint;
  readonly #name: string;
  readonly #choices: readonly Tls[];
  #tls: Tls;

  private constructor(pg: Pg, endpoint: Endpoint, name: string, choices: readonly Tls[]) {
    this.#pg = pg;
    this.#endpoint = endpoint;
    this.#name = name;
    this.#choices = choices;
    this.#tls = choices[0]!;
    this.server = `PostgreSQL at ${endpoint.host}:${endpoint.port}`;
  }

  /** Loads the library and reads the certificates' files; connects to nothing. `name` is what the server shows. */
  static async make(endpoint: Endpoint, name: string): Promise<Clients> {
    const { default: pg } = await import("pg");
    return new Clients(pg, endpoint, endpoint.applicationName ?? name, tlsChoices(endpoint));
  }

  /** A connection of its own. Throws PostgresError. */
  async connect(signal: AbortSignal): Promise<Client> {
    for (const [index, tls] of this.#choices.entries()) {
      const client = new this.#pg.Client(this.#config(tls));
      // What breaks it is told by the query that fails, or by its end.
      client.on("error", () => undefined);
      const giveUp = () => void client.end().catch(() => undefined);
      signal.addEventListener("abort", giveUp, { once: true });
      try {
        signal.throwIfAborted();
        await client.connect();
        signal.throwIfAborted();
        this.#tls = tls;
        return client;
      } catch (error) {
        void client.end().catch(() => undefined);
        signal.throwIfAborted();
        const known = asPostgresError(error, this.server);
        const last = index === this.#choices.length - 1;
        if (last || known.errorClass === "unavailable" || /^(28P01|3D000)$/.test(known.code)) throw known;
      } finally {
        signal.removeEventListener("abort", giveUp);
      }
    }
    throw new Error("unreachable");
  }

  /** A pool of connections, which are made when they are needed. The way to connect is the one that `connect` found. */
  pool(maxConnections: number, maxIdleMs: number): Pool {
    const pool = new this.#pg.Pool({
      ...this.#config(this.#tls),
      max: maxConnections,
      idleTimeoutMillis: maxIdleMs,
    });
    // An idle connection that breaks is replaced.
    pool.on("error", () => undefined);
    // One that is lent, or just given back, has no other listener at times: its error would end the process.
    pool.on("connect", (client) => client.on("error", () => undefined));
    return pool;
  }

  #config(tls: Tls): ClientConfig {
    const { host, address, port, user, password, database, connectMs } = this.#endpoint;
    const { types } = this.#pg;
    return {
      host: address ?? host,
      port,
      user,
      // A function, since pg would look for an empty one in the environment.
      password: () => password,
      database,
      ssl: tls,
      application_name: this.#name,
      connectionTimeoutMillis: connectMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      types: {
        getTypeParser: ((oid: number, format?: "text") =>
          oid === int8 ? Number : types.getTypeParser(oid, format)) as typeof types.getTypeParser,
      },
    };
  }
}
