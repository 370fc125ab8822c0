/** Calls with one message up and one down, by Dapr's API and by the native one: over gRPC, and over HTTP/1.1 with JSON. */
import { Connection } from "../client/connection.ts";
import { Http1Connections, httpRequest } from "../client/http1.ts";
import { besideNative, type Pair } from "../measure/beside-native.ts";
import { inFlight } from "../measure/beside-yardstick.ts";
import type { Caller } from "../measure/load.ts";
import { Pace } from "../measure/pace.ts";
import {
  getRequest,
  keyOf,
  paths,
  payload,
  publishBatchRequest,
  publishRequest,
  setRequest,
  transactRequest,
} from "../messages.ts";
import type { Scenario } from "../scenario.ts";
import { startSidecar } from "../servers/sidecar.ts";
import {
  bulkPublishRequest,
  daprPaths,
  dataType,
  getStateRequest,
  publishEventRequest,
  saveStateRequest,
  transactionRequest,
} from "./messages.ts";

/** Keys that are read and written in turn. */
const keys = 1000;
/** Events of a bulk publish. */
const bulk = 100;

const numbers = Array.from({ length: keys }, (_, number) => number);
/** Those of a transaction: two. */
const pairOf = (number: number) => [number, (number + 1) % keys];
const json = "application/json";
const text = Buffer.from(payload()).toString();
const base64 = Buffer.from(payload()).toString("base64");

export const daprUnary: Scenario = {
  name: "dapr-unary",
  about: "state and publish in memory, by Dapr's API beside the native one: over gRPC, and HTTP",
  async *run(effort) {
    const sidecar = await startSidecar({ store: "memory" });
    const grpc = await Connection.open(sidecar.grpcPort);
    const pace = await Pace.start();
    try {
      await Promise.all(numbers.map((number) => grpc.call(paths.set, setRequest("state", number))));
      yield* besideNative(sidecar.pid, overGrpc(grpc), pace, effort);
      const http = await Http1Connections.open(sidecar.httpPort, inFlight);
      yield* besideNative(sidecar.pid, overHttp(http), pace, effort);
      http.close();
    } finally {
      await pace.stop();
      grpc.close();
      await sidecar.stop();
    }
  },
};

function overGrpc(connection: Connection): Pair[] {
  const caller = (path: string, requests: readonly Uint8Array[]) =>
    inTurn(requests, (request) => connection.call(path, request));
  return [
    {
      name: "state get, gRPC",
      native: caller(
        paths.get,
        numbers.map((number) => getRequest("state", number)),
      ),
      dapr: caller(
        daprPaths.get,
        numbers.map((number) => getStateRequest("state", number)),
      ),
    },
    {
      name: "state save, gRPC",
      native: caller(
        paths.set,
        numbers.map((number) => setRequest("state", number)),
      ),
      dapr: caller(
        daprPaths.save,
        numbers.map((number) => saveStateRequest("state", number)),
      ),
    },
    {
      name: "transaction of two, gRPC",
      native: caller(
        paths.transact,
        numbers.map((number) => transactRequest("state", pairOf(number))),
      ),
      dapr: caller(
        daprPaths.transact,
        numbers.map((number) => transactionRequest("state", pairOf(number))),
      ),
    },
    {
      name: "publish, gRPC",
      native: caller(paths.publish, [publishRequest("pubsub", "bench")]),
      dapr: caller(daprPaths.publish, [publishEventRequest("pubsub", "bench")]),
    },
    {
      name: `bulk publish of ${bulk}, gRPC`,
      native: caller(paths.publishBatch, [publishBatchRequest("pubsub", "bench", bulk)]),
      dapr: caller(daprPaths.publishBulk, [bulkPublishRequest("pubsub", "bench", bulk)]),
    },
  ];
}

function overHttp(connections: Http1Connections): Pair[] {
  const caller = (requests: readonly Uint8Array[]) =>
    inTurn(requests, (request) => connections.call(request));
  const native = (path: string, value: unknown) => httpRequest("POST", path, json, JSON.stringify(value));
  const dapr = (path: string, value: unknown) =>
    httpRequest("POST", `/v1.0/${path}`, json, JSON.stringify(value));
  const set = (number: number) => ({ key: keyOf(number), value: base64 });
  const upsert = (number: number) => ({ operation: "upsert", request: { key: keyOf(number), value: text } });
  const entry = (number: number) => ({ entryId: String(number), event: text, contentType: dataType });
  const nativeEntry = (number: number) => ({
    entryId: String(number),
    outgoing: { event: { data: base64 } },
  });
  const entries = numbers.slice(0, bulk);
  return [
    {
      name: "state get, HTTP",
      native: caller(numbers.map((number) => native(paths.get, { component: "state", key: keyOf(number) }))),
      dapr: caller(numbers.map((number) => httpRequest("GET", `/v1.0/state/state/${keyOf(number)}`))),
    },
    {
      name: "state save, HTTP",
      native: caller(numbers.map((number) => native(paths.set, { component: "state", ...set(number) }))),
      dapr: caller(numbers.map((number) => dapr("state/state", [{ key: keyOf(number), value: text }]))),
    },
    {
      name: "transaction of two, HTTP",
      native: caller(
        numbers.map((number) => {
          const writes = pairOf(number).map((each) => ({ set: set(each) }));
          return native(paths.transact, { component: "state", writes });
        }),
      ),
      dapr: caller(
        numbers.map((number) => dapr("state/state/transaction", { operations: pairOf(number).map(upsert) })),
      ),
    },
    {
      name: "publish, HTTP",
      native: caller([
        native(paths.publish, {
          component: "pubsub",
          topic: "bench",
          outgoing: { event: { data: base64 } },
        }),
      ]),
      dapr: caller([httpRequest("POST", "/v1.0/publish/pubsub/bench", dataType, text)]),
    },
    {
      name: `bulk publish of ${bulk}, HTTP`,
      native: caller([
        native(paths.publishBatch, {
          component: "pubsub",
          topic: "bench",
          entries: entries.map(nativeEntry),
        }),
      ]),
      dapr: caller([dapr("publish/bulk/pubsub/bench", entries.map(entry))]),
    },
  ];
}

/** Calls with the requests, one after the other, again and again. */
function inTurn(requests: readonly Uint8Array[], call: (request: Uint8Array) => Promise<unknown>): Caller {
  let next = 0;
  return () => call(requests[next++ % requests.length]!);
}
