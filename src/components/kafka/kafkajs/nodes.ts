/** Connections of kafkajs to the nodes of one cluster. */
import net from "node:net";
import tls from "node:tls";
import { KafkaError } from "../errors.ts";
import type { Connecting } from "../security.ts";
import { translate } from "./errors.ts";
import type { Broker, ConnectionPool, Library, PoolOptions, Protocol, SocketRequest } from "./library.ts";

/** What all connections have in common. */
export interface NodeOptions extends Connecting {
  readonly clientId: string;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly keepAliveMs: number;
  log(message: string, fields: Readonly<Record<string, unknown>>): void;
}

/** A length that no answer to the first request has: what sends it speaks something else. */
const absurdAnswerBytes = 16 * 1024 * 1024;
/** How long before the end of an authenticated session it is renewed. */
const reauthenticateBeforeMs = 10_000;

/** A broker object of kafkajs and its connections. One that failed is given up with all of them, and another is made. */
interface Link {
  readonly broker: Broker;
  readonly pool: ConnectionPool;
  readonly sockets: Set<net.Socket>;
  /** Those who wait for an answer: how each is told that there will be none. */
  readonly waiting: Set<(why: Error) => void>;
  /** Why it could not be used, when what came over it tells more than the library does. */
  finding: KafkaError | undefined;
  /** Why it was given up. */
  ended: Error | undefined;
}

/** One node. */
export class KafkajsNode {
  readonly host: string;
  readonly port: number;
  readonly #library: Library;
  readonly #options: NodeOptions;
  #link: Link | undefined;
  #closed: Error | undefined;

  constructor(host: string, port: number, library: Library, options: NodeOptions) {
    this.host = host;
    this.port = port;
    this.#library = library;
    this.#options = options;
  }

  /**
   * Sends a request in the best version that both sides know, connecting first if need be. A node that is silent for
   * `withinMs`, or for as long as such a request may take, gets new connections. Throws a KafkaError.
   */
  async send(
    api: string,
    args: readonly unknown[],
    change?: (protocol: Protocol) => Protocol,
    withinMs?: number,
  ): Promise<unknown> {
    const { connectTimeoutMs, requestTimeoutMs } = this.#options;
    const link = this.#current;
    try {
      const { broker, pool } = link;
      // A broker of kafkajs is connected before it knows which versions the node speaks.
      if (!broker.isConnected() || broker.versions === null) {
        await this.#answered(link, withinMs ?? 2 * connectTimeoutMs, broker.connect());
      }
      const { apiKeys, lookup, requests } = this.#library;
      const protocol = lookup(broker.versions)(apiKeys[api]!, requests[api]!)(...args);
      // Answers for many partitions are read part by part: one that failed says nothing of the others.
      const response = { decode: protocol.response.decode, parse: asItIs };
      const whole: Protocol = { ...protocol, response, logResponseError: false };
      const limitMs = withinMs ?? Math.max(requestTimeoutMs, protocol.requestTimeout ?? 0);
      return await this.#answered(link, limitMs, pool.send(change?.(whole) ?? whole));
    } catch (error) {
      const translated = link.finding ?? translate(error, `${this.host}:${this.port}`);
      link.finding = undefined;
      // Whether the node got it nobody knows; what it answers now, nobody would take for the right answer.
      if (isDoubtful(translated)) this.#giveUp(link, translated);
      throw translated;
    }
  }

  /**
   * The same promise, rejected when the node is silent for too long or its connections are given up: kafkajs asks the
   * clock how long a request takes, which may be put back, and forgets who waits for an answer about a password.
   */
  async #answered<T>(link: Link, limitMs: number, answer: Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const giveUp = () => {
      const message = `${this.host}:${this.port} was silent for ${limitMs} ms`;
      if (link.waiting.has(reject)) this.#giveUp(link, new KafkaError("unavailable", message));
    };
    // After a process was stopped, timers come before the answers that arrived meanwhile.
    const late = setTimeout(() => setImmediate(giveUp), limitMs);
    link.waiting.add(reject);
    answer.then(resolve, reject);
    try {
      return await promise;
    } finally {
      link.waiting.delete(reject);
      clearTimeout(late);
    }
  }

  /** Ends its connections; what waits for an answer fails. The next request makes new ones. */
  reset(why: Error): void {
    if (this.#link) this.#giveUp(this.#link, why);
  }

  /** Ends its connections for good. */
  close(why: Error): void {
    this.#closed = why;
    this.reset(why);
  }

  /** Throws when it was closed. */
  get #current(): Link {
    if (this.#closed) throw this.#closed;
    this.#link ??= this.#create();
    return this.#link;
  }

  /** A request that was under way on a link that was given up does no harm to the one after it. */
  #giveUp(link: Link, why: Error): void {
    link.ended ??= why;
    if (this.#link === link) this.#link = undefined;
    for (const socket of link.sockets) socket.destroy(why);
    link.sockets.clear();
    for (const reject of link.waiting) reject(why);
  }

  #create(): Link {
    const { clientId, connectTimeoutMs, requestTimeoutMs, log, tls: secure } = this.#options;
    const logger = this.#library.loggerOf(log);
    const options: PoolOptions = {
      host: this.host,
      port: this.port,
      clientId,
      logger,
      ssl: secure ?? null,
      sasl: this.#options.sasl() ?? null,
      socketFactory: (request) => this.#socket(link, request),
      connectionTimeout: connectTimeoutMs,
      requestTimeout: requestTimeoutMs,
      reauthenticationThreshold: reauthenticateBeforeMs,
      enforceRequestTimeout: false,
      maxInFlightRequests: null,
    };
    const pool = new this.#library.ConnectionPool(options);
    const broker = new this.#library.Broker({
      connectionPool: pool,
      logger,
      authenticationTimeout: connectTimeoutMs,
      allowAutoTopicCreation: false,
    });
    const link: Link = {
      broker,
      pool,
      sockets: new Set(),
      waiting: new Set(),
      finding: undefined,
      ended: undefined,
    };
    return link;
  }

  #socket(link: Link, { host, port, onConnect }: SocketRequest): net.Socket {
    // kafkajs connects again by itself, also for who has waited since before the link was given up.
    if (link.ended) throw link.ended;
    const secure = this.#options.tls;
    const servername = net.isIP(host) ? {} : { servername: host };
    const socket = secure
      ? tls.connect({ host, port, ...servername, ...secure }, onConnect)
      : net.connect({ host, port }, onConnect);
    socket.setKeepAlive(true, this.#options.keepAliveMs);
    socket.setNoDelay(true);
    link.sockets.add(socket);
    socket.once("close", () => link.sockets.delete(socket));
    socket.once("data", (bytes: Buffer) => {
      const finding = bytes.length < 4 ? undefined : this.#foreign(bytes);
      if (finding === undefined) return;
      link.finding = finding;
      socket.destroy(finding);
    });
    return socket;
  }

  /** What the first bytes tell of a server that is no Kafka. */
  #foreign(bytes: Buffer): KafkaError | undefined {
    const length = bytes.readInt32BE(0);
    if (length > 0 && length < absurdAnswerBytes) return undefined;
    const alert = bytes[0] === 0x15 && bytes[1] === 3;
    const hint = alert ? "it expects TLS, which is off here" : "it speaks another protocol";
    return new KafkaError("unavailable", `${this.host}:${this.port} does not answer as Kafka does: ${hint}`);
  }
}

/** Whether an error leaves open what became of the request: no broker has said it. */
function isDoubtful({ code, kind }: KafkaError): boolean {
  return code === "" && kind === "unavailable";
}

async function asItIs(decoded: unknown): Promise<unknown> {
  return decoded;
}
