/** Events to applications of Dapr's API: what one of them costs, beside one on the native stream. */
import { startRedis } from "../../test/servers/redis.ts";
import { startSidecarOn } from "../brokers/beside-client.ts";
import { Connection } from "../client/connection.ts";
import { Flow } from "../client/flow.ts";
import type { Receiver } from "../client/receiver.ts";
import { Subscriber } from "../client/subscriber.ts";
import { flowCost } from "../measure/flow-cost.ts";
import { aimedEchoMicros, Pace } from "../measure/pace.ts";
import { payload } from "../messages.ts";
import type { Effort, Figure, Scenario } from "../scenario.ts";
import { type Sidecar, type SidecarSettings, startSidecar } from "../servers/sidecar.ts";
import { Application, type ApplicationSettings } from "./application.ts";
import { BareApplication } from "./bare-application.ts";
import { DaprSubscriber } from "./subscriber.ts";

/** What daprd takes to deliver an event that is in Redis, in microseconds. Half of it, scaled by the echo, is what we may take. */
const daprd = { stream: 94, grpc: 116 } as const;
/** Events in a message of the publisher; of bulk deliveries, too. */
const batch = 100;
const window = 1000;
const component = "pubsub";

/** Starts the sidecar that delivers, with the application if there is one, and the one that is published to. */
type Start = (app?: SidecarSettings["app"]) => Promise<Sidecar>;

export const daprDeliveryMemory: Scenario = {
  name: "dapr-delivery-memory",
  about: "publish and deliver in memory: to streams and applications of Dapr's API, and natively",
  run: (effort) => deliver((app) => startSidecar({ store: "memory", ...(app && { app }) }), effort),
};

export const daprDeliveryRedis: Scenario = {
  name: "dapr-delivery-redis",
  about:
    "deliver from Redis, published by another sidecar: to streams and applications of Dapr's API, and natively",
  async *run(effort) {
    await using server = await startRedis({ appendonly: "no" });
    const fields = { redisHost: `127.0.0.1:${server.port}`, maxLenApprox: "100000" };
    const start: Start = (app) => startSidecarOn("pubsub.redis", fields, app);
    const publisher = await start();
    try {
      yield* deliver(start, effort, publisher);
    } finally {
      await publisher.stop();
    }
  },
};

/** Every way. Without a `publisher` it is the measured sidecar that events are published through. */
async function* deliver(start: Start, effort: Effort, publisher?: Sidecar): AsyncGenerator<Figure> {
  const pace = await Pace.start();
  const what = publisher ? "deliver" : "publish and deliver";
  const measure = (name: string, open: Open, atMostMicros?: number) =>
    measured(`${what}, ${name}`, { start, open, publisher, pace, effort, atMostMicros });
  try {
    yield* measure("native stream, one a message", nativeStream);
    yield* measure("SubscribeTopicEventsAlpha1", daprStream, daprd.stream / 2);
    yield* measure("OnTopicEvent", bareApplication, daprd.grpc / 2);
    yield* measure("HTTP callback", application("http", 1));
    // In memory, as in Dapr, there is one event at a time.
    if (!publisher) return;
    yield* measure(`OnBulkTopicEvent of ${batch}`, application("grpc", batch));
    yield* measure(`HTTP bulk callback of ${batch}`, application("http", batch));
  } finally {
    await pace.stop();
  }
}

/** Who receives, and the sidecar that delivers to it. */
interface Delivering {
  readonly sidecar: Sidecar;
  readonly receiver: Receiver;
  close(): void;
}

/** Has somebody subscribe to a topic. */
type Open = (start: Start, topic: string) => Promise<Delivering>;

interface Measurement {
  readonly start: Start;
  readonly open: Open;
  readonly publisher: Sidecar | undefined;
  readonly pace: Pace;
  readonly effort: Effort;
  readonly atMostMicros: number | undefined;
}

async function* measured(name: string, measurement: Measurement): AsyncGenerator<Figure> {
  const { start, open, publisher, pace, effort, atMostMicros } = measurement;
  const topic = name.replaceAll(/\W+/g, "-");
  const { sidecar, receiver, close } = await open(start, topic);
  const connection = await Connection.open((publisher ?? sidecar).grpcPort);
  const flow = new Flow(connection, receiver, {
    component,
    topic,
    batch,
    window,
    data: payload(),
    asDapr: true,
  });
  try {
    const { cpuMicros, echoMicros, echoes, rate } = await flowCost(sidecar.pid, flow, pace, effort);
    yield { what: `${name}: CPU an event`, value: cpuMicros, yardstick: echoMicros, unit: "us" };
    const target = atMostMicros === undefined ? undefined : { atMost: atMostMicros / aimedEchoMicros };
    yield { what: `${name}: CPU beside the echo's`, value: echoes, unit: "times", target };
    yield { what: `${name}: events`, value: rate, unit: "/s" };
  } finally {
    flow.close();
    connection.close();
    close();
    await sidecar.stop();
  }
}

const nativeStream: Open = async (start, topic) => {
  const sidecar = await start();
  const connection = await Connection.open(sidecar.grpcPort);
  // As many in flight as Dapr's subscriptions have.
  const settings = { component, topic, batch: 1, maxInFlight: 100, settleEach: true };
  const receiver = new Subscriber(connection, settings);
  return { sidecar, receiver, close: () => connection.close() };
};

const daprStream: Open = async (start, topic) => {
  const sidecar = await start();
  const connection = await Connection.open(sidecar.grpcPort);
  const receiver = await DaprSubscriber.open(connection, component, topic);
  return { sidecar, receiver, close: () => connection.close() };
};

const bareApplication: Open = async (start, topic) => {
  const receiver = await BareApplication.listen(component, topic);
  const sidecar = await start({ port: receiver.port, protocol: receiver.protocol });
  return { sidecar, receiver, close: () => {} };
};

function application(protocol: ApplicationSettings["protocol"], perCall: number): Open {
  return async (start, topic) => {
    const settings = { protocol, pubsubName: component, topic, batch: perCall };
    const receiver = await Application.listen(settings);
    const sidecar = await start({ port: receiver.port, protocol });
    return { sidecar, receiver, close: () => {} };
  };
}
