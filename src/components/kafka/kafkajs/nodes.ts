/** Connections of kafkajs to the nodes of one cluster. */
import net from "node:net";
import tls from "node:tls";
import { KafkaError } from "../errors.ts";
import type { Connecting } from "../security.ts";
import { translate } from "./errors.ts";
import type { Broker, Library, PoolOptions, Protocol, SocketRequest } from "./library.ts";

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

/** A broker object of kafkajs and its connections. */
interface Link {
  readonly broker: Broker;
  send(protocol: Protocol): Promise<unknown>;
}

/** One node. */
export class KafkajsNode {
  readonly host: string;
  readonly port: number;
  readonly #library: Library;
  readonly #options: NodeOptions;
  readonly #sockets = new Set<net.Socket>();
  #link: Link | undefined;
  /** Why the last connection could not be used, when what came over it tells more than the library does. */
  #finding: KafkaError | undefined;

  constructor(host: string, port: number, library: Library, options: NodeOptions) {
    this.host = host;
    this.port = port;
    this.#library = library;
    this.#options = options;
  }

  /** Sends a request in the best version that both sides know, connecting first if need be. Throws a KafkaError. */
  async send(
    api: string,
    args: readonly unknown[],
    change?: (protocol: Protocol) => Protocol,
  ): Promise<unknown> {
    try {
      const { broker, send } = await this.#connected();
      const { apiKeys, lookup, requests } = this.#library;
      const protocol = lookup(broker.versions)(apiKeys[api]!, requests[api]!)(...args);
      // Answers for many partitions are read part by part: one that failed says nothing of the others.
      const response = { decode: protocol.response.decode, parse: asItIs };
      const whole: Protocol = { ...protocol, response, logResponseError: false };
      return await send(change?.(whole) ?? whole);
    } catch (error) {
      const translated = this.#finding ?? translate(error, `${this.host}:${this.port}`);
      this.#finding = undefined;
      // Whether the node got it nobody knows; what it answers now, nobody would take for the right answer.
      if (translated.code === "" && translated.kind === "unavailable") this.close(translated);
      throw translated;
    }
  }

  /** Ends its connections; what waits for an answer fails. */
  close(why: Error): void {
    this.#link = undefined;
    for (const socket of this.#sockets) socket.destroy(why);
    this.#sockets.clear();
  }

  async #connected(): Promise<Link> {
    this.#link ??= await this.#create();
    const link = this.#link;
    if (!link.broker.isConnected()) await link.broker.connect();
    return link;
  }

  async #create(): Promise<Link> {
    const { clientId, connectTimeoutMs, requestTimeoutMs, log } = this.#options;
    const logger = this.#library.loggerOf(log);
    // Read for every new connection, so that certificates that changed are used.
    const secure = await this.#options.tls();
    const options: PoolOptions = {
      host: this.host,
      port: this.port,
      clientId,
      logger,
      ssl: secure ?? null,
      sasl: this.#options.sasl() ?? null,
      socketFactory: (request) => this.#socket(request),
      connectionTimeout: connectTimeoutMs,
      requestTimeout: requestTimeoutMs,
      reauthenticationThreshold: reauthenticateBeforeMs,
      enforceRequestTimeout: true,
      maxInFlightRequests: null,
    };
    const pool = new this.#library.ConnectionPool(options);
    const broker = new this.#library.Broker({
      connectionPool: pool,
      logger,
      authenticationTimeout: connectTimeoutMs,
      allowAutoTopicCreation: false,
    });
    return { broker, send: (protocol) => pool.send(protocol) };
  }

  #socket({ host, port, onConnect }: SocketRequest): net.Socket {
    const secure = this.#options.currentTls();
    const servername = net.isIP(host) ? {} : { servername: host };
    const socket = secure
      ? tls.connect({ host, port, ...servername, ...secure }, onConnect)
      : net.connect({ host, port }, onConnect);
    socket.setKeepAlive(true, this.#options.keepAliveMs);
    socket.setNoDelay(true);
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.once("data", (bytes: Buffer) => {
      const finding = bytes.length < 4 ? undefined : this.#foreign(bytes);
      if (finding === undefined) return;
      this.#finding = finding;
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

async function asItIs(decoded: unknown): Promise<unknown> {
  return decoded;
}
