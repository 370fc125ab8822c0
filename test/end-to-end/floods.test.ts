/** Too much of everything, over the real gRPC port: memory stays bounded, and no other stream is disturbed. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Delivery,
  Outcome,
  PublishStreamRequestSchema,
} from "../../gen/outrider/pubsub/v1/pubsub_pb.ts";
import { connected, open } from "../server/raw-call.ts";
import { Application } from "./application.ts";
import { RawStream } from "./raw-stream.ts";
import { Witness } from "./witness.ts";

/** What a sidecar may take in any of these, in megabytes; idle it takes some 90. */
const boundMegabytes = 400;
/** When a connection takes nothing for so long, it takes no more, in milliseconds. */
const fullAfterMs = 1000;

let witness: Witness;
let app: Application;
beforeEach(async () => {
  witness = await Witness.start();
  app = new Application(witness.sidecar.grpcPort);
});
afterEach(async () => {
  app?.[Symbol.dispose]();
  await witness?.[Symbol.asyncDispose]();
});

const textOf = ({ event }: Delivery) => Buffer.from(event!.data).toString();

describe("a client with 1,000 streams on one connection", () => {
  it("gets every event once, on one of them", async () => {
    const topic = "thousand";
    using many = new Application(witness.sidecar.grpcPort);
    const got: string[] = [];
    const peak = await witness.peakMegabytes(async () => {
      const streams = Array.from({ length: 1000 }, () => {
        const stream = many.subscribe([{ topic, maxInFlight: 1 }], (deliveries) => {
          got.push(...deliveries.map(textOf));
          stream.settle(deliveries);
        });
        return stream;
      });
      await Promise.all(streams.map((stream) => stream.heard("opened")));
      await witness.expectUndisturbed();
      const entries = Array.from({ length: 1000 }, (_, index) => ({
        outgoing: { event: { data: Buffer.from(String(index)) } },
      }));
      await app.pubsub.publishBatch({ topic, entries });
      await expect.poll(() => got.length, { timeout: 10_000 }).toBe(1000);
      await witness.expectUndisturbed();
    });
    expect(new Set(got).size).toBe(1000);
    expect(peak).toBeLessThan(boundMegabytes);
  });
});

describe("connections", () => {
  it("that say nothing, or only half of something, take nothing from others", async () => {
    const sockets: Socket[] = [];
    try {
      for (let index = 0; index < 300; index++) {
        const socket = connect(witness.sidecar.grpcPort, "127.0.0.1").on("error", () => {});
        sockets.push(socket);
        await once(socket, "connect");
        if (index % 3 === 1) socket.write("PRI * HTTP/2.0\r\n");
        if (index % 3 === 2) socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01");
      }
      await witness.expectUndisturbed();
    } finally {
      for (const socket of sockets) socket.destroy();
    }
    await witness.expectUndisturbed();
  });
});

describe("a flood", () => {
  it("of settlements that name nothing is not heard further than its complaints are read", async () => {
    const peak = await witness.peakMegabytes(async () => {
      using flood = new RawStream(witness.sidecar.grpcPort);
      let sent = 0;
      for (; sent < 2_000_000; sent++) {
        const settle = { deliveries: [{ first: BigInt(sent + 1) }], outcome: Outcome.ACK };
        if (!flood.send({ case: "settle", value: settle }) && !(await flood.takesMore(fullAfterMs))) break;
      }
      expect(sent).toBeLessThan(100_000);
      await witness.expectUndisturbed();
    });
    expect(peak).toBeLessThan(boundMegabytes);
  });

  it("of opens is answered one by one, and those over the limit are refused", async () => {
    const opens = Array.from({ length: 3000 }, (_, index) => ({ topic: "opens", group: `g${index}` }));
    using stream = app.subscribe(opens);
    await expect.poll(() => stream.said.length, { timeout: 20_000 }).toBe(3000);
    const closed = stream.said.flatMap((message) => (message.case === "closed" ? [message.value] : []));
    expect(closed.length).toBe(2000);
    expect(new Set(closed.map(({ reason }) => reason))).toEqual(new Set(["INVALID_REQUEST"]));
    await witness.expectUndisturbed();
  });

  it("of opens and closes is answered to the last, and leaves nothing behind", async () => {
    const peak = await witness.peakMegabytes(async () => {
      using stream = app.subscribe([]);
      const rounds = 3000;
      for (let round = 1; round <= rounds; round++) {
        stream.send({
          message: { case: "open", value: { subscription: round, topic: "doors", group: "g" } },
        });
        stream.send({ message: { case: "close", value: { subscription: round } } });
      }
      const closed = () => stream.said.filter((message) => message.case === "closed").length;
      await expect.poll(closed, { timeout: 20_000 }).toBe(rounds);
      await witness.expectUndisturbed();
      const { subscriptions } = await app.runtime.getMetadata({});
      expect(subscriptions.map(({ topic }) => topic)).toEqual(["witness"]);
    });
    expect(peak).toBeLessThan(boundMegabytes);
  });

  it("of streams that are opened and reset at once leaves none behind", async () => {
    const peak = await witness.peakMegabytes(async () => {
      for (let round = 0; round < 20; round++) {
        const session = await connected(witness.sidecar.grpcPort);
        try {
          for (let index = 0; index < 500 && !session.closed && !session.destroyed; index++) {
            open(session, { ":path": "/outrider.pubsub.v1.PubSubService/Subscribe" })
              .on("error", () => {})
              .close(8);
          }
        } finally {
          session.destroy();
        }
      }
      await witness.expectUndisturbed();
      await expect.poll(() => witness.metric("outrider_pubsub_subscribe_streams")).toBe(1);
    });
    expect(peak).toBeLessThan(boundMegabytes);
  });

  it("of publishes whose acknowledgements nobody reads comes to a stop, and loses nothing that was taken", async () => {
    const topic = "unread-acknowledgements";
    const peak = await witness.peakMegabytes(async () => {
      using flood = new RawStream(witness.sidecar.grpcPort, "PublishStream");
      const request = create(PublishStreamRequestSchema, {
        topic,
        wantPublished: true,
        outgoing: Array.from({ length: 100 }, () => ({ event: { data: Buffer.alloc(100) } })),
      });
      const message = toBinary(PublishStreamRequestSchema, request);
      let sent = 0;
      for (; sent < 10_000; sent++) {
        if (!flood.sendBytes(message) && !(await flood.takesMore(fullAfterMs))) break;
      }
      expect(sent).toBeLessThan(2000);
      await witness.expectUndisturbed();
      let bytes = 0;
      flood.call.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      flood.call.end();
      await once(flood.call, "end");
      expect(bytes).toBeGreaterThan(sent * 100 * 30);
    });
    expect(peak).toBeLessThan(boundMegabytes);
  });
});
