/** The parts of kafkajs 2.2.4 that are used, which it has no types for. */

declare module "kafkajs/src/protocol/encoder.js" {
  class Encoder {
    writeInt8(value: number): Encoder;
    writeInt16(value: number): Encoder;
    writeInt32(value: number): Encoder;
    writeInt64(value: number | string): Encoder;
    writeString(value: string | null): Encoder;
    writeBuffer(value: Buffer): Encoder;
    get buffer(): Buffer;
  }
  export default Encoder;
}

declare module "kafkajs/src/protocol/error.js" {
  const errors: {
    readonly errorCodes: readonly {
      readonly type: string;
      readonly code: number;
      readonly message: string;
    }[];
  };
  export default errors;
}

declare module "kafkajs/src/protocol/requests/index.js" {
  /** A request as it is sent: how it is written, and how its answer is read. */
  export interface Protocol {
    readonly request: {
      readonly apiKey: number;
      readonly apiVersion: number;
      readonly apiName: string;
      readonly encode: () => Promise<unknown>;
      readonly expectResponse?: () => boolean;
    };
    readonly response: {
      readonly decode: (payload: Buffer) => Promise<unknown>;
      readonly parse: (decoded: unknown) => Promise<unknown>;
    };
    readonly requestTimeout?: number;
    readonly logResponseError?: boolean;
  }
  export interface Definition {
    readonly versions: readonly string[];
  }
  const requests: {
    readonly requests: Readonly<Record<string, Definition>>;
    readonly lookup: (
      versions: unknown,
    ) => (apiKey: number, definition: Definition) => (...args: readonly unknown[]) => Protocol;
  };
  export default requests;
}

declare module "kafkajs/src/protocol/requests/apiKeys.js" {
  const apiKeys: Readonly<Record<string, number>>;
  export default apiKeys;
}

declare module "kafkajs/src/network/connectionPool.js" {
  import type { Socket } from "node:net";
  import type { Protocol } from "kafkajs/src/protocol/requests/index.js";
  export interface SocketRequest {
    readonly host: string;
    readonly port: number;
    readonly onConnect: () => void;
  }
  export interface PoolOptions {
    readonly host: string;
    readonly port: number;
    readonly clientId: string;
    readonly logger: unknown;
    readonly ssl: object | null;
    readonly sasl: object | null;
    readonly socketFactory: (request: SocketRequest) => Socket;
    /** All in milliseconds. */
    readonly connectionTimeout: number;
    readonly requestTimeout: number;
    readonly reauthenticationThreshold: number;
    readonly enforceRequestTimeout: boolean;
    readonly maxInFlightRequests: number | null;
  }
  class ConnectionPool {
    constructor(options: PoolOptions);
    send(protocol: Protocol): Promise<unknown>;
  }
  export default ConnectionPool;
}

declare module "kafkajs/src/network/requestQueue/index.js" {
  class RequestQueue {
    pending: readonly unknown[];
    throttledUntil: number;
    scheduleCheckPendingRequests(): void;
  }
  export default RequestQueue;
}

declare module "kafkajs/src/broker/index.js" {
  import type ConnectionPool from "kafkajs/src/network/connectionPool.js";

  class Broker {
    constructor(options: {
      readonly connectionPool: ConnectionPool;
      readonly logger: unknown;
      readonly authenticationTimeout: number;
      readonly allowAutoTopicCreation: boolean;
    });
    readonly versions: unknown;
    isConnected(): boolean;
    connect(): Promise<void>;
  }
  export default Broker;
}

declare module "kafkajs/src/loggers/index.js" {
  const loggers: {
    readonly createLogger: (options: {
      readonly level: number;
      readonly logCreator: () => (entry: {
        readonly namespace: string;
        readonly log: { readonly message: string; readonly [field: string]: unknown };
      }) => void;
    }) => unknown;
  };
  export default loggers;
}
