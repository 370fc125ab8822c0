/** A pluggable component within a test: it does what the test says, and remembers what it was asked. */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Http2Server, type ServerHttp2Session } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type DescService, type MessageInitShape } from "@bufbuild/protobuf";
import { type Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  PubSub,
  type PullMessagesRequest,
  type PullMessagesResponseSchema,
} from "../../../gen/dapr/proto/components/v1/pubsub_pb.ts";
import {
  QueriableStateStore,
  StateStore,
  TransactionalStateStore,
  TransactionalStoreMultiMaxSize,
} from "../../../gen/dapr/proto/components/v1/state_pb.ts";
import { ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.ts";
import { ServerReflection as V1 } from "../../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as V1Alpha } from "../../../gen/grpc/reflection/v1alpha/reflection_pb.ts";

/** The services of a component, each as far as the test needs it. */
export interface Services {
  readonly state?: Partial<ServiceImpl<typeof StateStore>>;
  readonly transactional?: Partial<ServiceImpl<typeof TransactionalStateStore>>;
  readonly multiMaxSize?: Partial<ServiceImpl<typeof TransactionalStoreMultiMaxSize>>;
  readonly queriable?: Partial<ServiceImpl<typeof QueriableStateStore>>;
  readonly pubsub?: Partial<ServiceImpl<typeof PubSub>>;
}

/** A folder of sockets, empty at first. */
export class SocketsFolder {
  readonly path: string;
  readonly #components: NodeComponent[] = [];

  private constructor(path: string) {
    this.path = path;
  }

  static async make(): Promise<SocketsFolder> {
    return new SocketsFolder(await mkdtemp(join(tmpdir(), "outrider-sockets-")));
  }

  /** For a sidecar that is to look here. */
  get env(): Record<string, string> {
    return { ...(process.env as Record<string, string>), DAPR_COMPONENTS_SOCKETS_FOLDER: this.path };
  }

  /** Serves on a socket of this name. `reflection` undefined: both versions. */
  async serve(
    name: string,
    services: Services,
    reflection?: "v1" | "v1alpha" | "none",
  ): Promise<NodeComponent> {
    const component = await NodeComponent.start(join(this.path, `${name}.sock`), services, reflection);
    this.#components.push(component);
    return component;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#components.map((component) => component.stop()));
    await rm(this.path, { recursive: true, force: true });
  }
}

/** A process would be called a component; here it is a server. */
export class NodeComponent {
  readonly #server: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();

  private constructor(services: Services, reflection: "v1" | "v1alpha" | "none" | undefined) {
    const offered: [DescService, object | undefined][] = [
      [StateStore, services.state && { ...bare, ...services.state }],
      [TransactionalStateStore, services.transactional],
      [TransactionalStoreMultiMaxSize, services.multiMaxSize],
      [QueriableStateStore, services.queriable],
      [PubSub, services.pubsub && { ...bare, ...services.pubsub }],
    ];
    const served = offered.filter(([, implementation]) => implementation !== undefined);
    const names = served.map(([{ typeName }]) => ({ name: typeName }));
    const handler = connectNodeAdapter({
      routes(router) {
        for (const [service, implementation] of served) router.service(service, implementation as never);
        const messageResponse = { case: "listServicesResponse", value: { service: names } } as const;
        async function* serverReflectionInfo(requests: AsyncIterable<unknown>) {
          for await (const _ of requests) yield { messageResponse };
        }
        if (reflection === undefined || reflection === "v1") router.service(V1, { serverReflectionInfo });
        if (reflection === undefined || reflection === "v1alpha")
          router.service(V1Alpha, { serverReflectionInfo });
      },
    });
    this.#server = createServer(handler);
    this.#server.on("session", (session) => {
      this.#sessions.add(session);
      session.on("close", () => this.#sessions.delete(session));
    });
  }

  static async start(
    socket: string,
    services: Services,
    reflection?: "v1" | "v1alpha" | "none",
  ): Promise<NodeComponent> {
    const component = new NodeComponent(services, reflection);
    await new Promise<void>((listening) => component.#server.listen(socket, listening));
    return component;
  }

  /** Breaks every connection and hears no more, as if the process had died. Node takes the socket file away. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise((done) => this.#server.close(done));
    for (const session of this.#sessions) session.destroy();
    await closed;
  }

  /** Breaks every connection; another may be made. */
  disconnect(): void {
    for (const session of this.#sessions) session.destroy();
  }
}

/** What every component has. */
const bare = {
  init: () => ({}),
  features: () => ({ features: [] as string[] }),
  ping: () => ({}),
};

/** An error as Dapr's components ask for an answer. */
export function askedError(
  code: Code,
  message: string,
  asked: { httpCode: number; tag: string; reason: string; domain: string },
): ConnectError {
  const { httpCode, tag, reason, domain } = asked;
  const metadata = { kit_error: "true", http_code: String(httpCode), tag };
  const value = create(ErrorInfoSchema, { reason, domain, metadata });
  return new ConnectError(message, code, undefined, [{ desc: ErrorInfoSchema, value }]);
}

/** A broker that gives what a test pushes, to whichever stream is open, and keeps what is answered. */
export class PushBroker {
  /** What the first request of each stream had. */
  readonly topics: { readonly name: string; readonly metadata: Readonly<Record<string, string>> }[] = [];
  readonly answers: PullMessagesRequest[] = [];
  paused = 0;
  readonly #features: readonly string[];
  readonly #pause: () => object;
  #push: ((message: MessageInitShape<typeof PullMessagesResponseSchema>) => void) | undefined;

  constructor(features: readonly string[] = [], pause: () => object = () => ({})) {
    this.#features = features;
    this.#pause = pause;
  }

  /** Whether a stream is open. */
  get open(): boolean {
    return this.#push !== undefined;
  }

  /** Gives a message to the stream that is open; false: there is none. */
  push(message: MessageInitShape<typeof PullMessagesResponseSchema>): boolean {
    this.#push?.(message);
    return this.#push !== undefined;
  }

  /** A CloudEvent, in a message of this id. */
  pushEvent(topicName: string, id: string, data: unknown = { foo: "helloworld" }, metadata = {}): boolean {
    const event = {
      ...{ specversion: "1.0", id: randomUUID(), source: "test", type: "test.event" },
      ...{ datacontenttype: "application/json", data },
    };
    return this.push({ topicName, id, data: Buffer.from(JSON.stringify(event)), metadata });
  }

  /** The answers for the message of an id. */
  answersTo(id: string): readonly PullMessagesRequest[] {
    return this.answers.filter(({ ackMessageId }) => ackMessageId === id);
  }

  readonly implementation: Partial<ServiceImpl<typeof PubSub>> = {
    features: () => ({ features: [...this.#features] }),
    pause: () => {
      this.paused += 1;
      return this.#pause();
    },
    publish: () => ({}),
    pullMessages: (requests, context) => this.#pull(requests, context.signal),
  };

  async *#pull(requests: AsyncIterable<PullMessagesRequest>, signal: AbortSignal) {
    const queue: MessageInitShape<typeof PullMessagesResponseSchema>[] = [];
    let wake = () => {};
    let ended = false;
    const end = () => {
      ended = true;
      this.#push = undefined;
      wake();
    };
    signal.addEventListener("abort", end, { once: true });
    const read = async () => {
      for await (const request of requests) {
        if (request.topic) {
          this.topics.push({ name: request.topic.name, metadata: request.topic.metadata });
          this.#push = (message) => {
            queue.push(message);
            wake();
          };
        } else this.answers.push(request);
      }
    };
    void read().then(end, end);
    while (!ended) {
      yield* queue.splice(0);
      if (!ended && queue.length === 0)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  }
}
