/** A broker that cannot be reached for a while, as the engine sees it: its driver fails, and then does not. */
import { afterEach, describe, expect, it } from "vitest";
import type { DriverSubscription, PubSubDriver } from "../../../src/blocks/pubsub/driver.ts";
import { changedDriver, changedSubscription } from "./changed-driver.ts";
import { refusalOf, type Sidecar, startSidecar, textOf } from "./sidecar.ts";

const away = new Error("nobody listens there");
const refused = new Error("this topic is not for you");

let sidecar: Sidecar;
afterEach(() => sidecar.close());

/** How often, in all, the driver was asked to join a group, and what else a test decides. */
interface Broker {
  opened: number;
  /** Thrown by the next attempts to join a group, one each. */
  readonly openErrors: Error[];
  /** Thrown by the next receives, one each. */
  readonly receiveErrors: Error[];
}

async function startWith(broker: Broker): Promise<Sidecar> {
  const failing = (real: DriverSubscription): DriverSubscription =>
    changedSubscription(real, {
      async receive(max, call) {
        const error = broker.receiveErrors.shift();
        if (error) throw error;
        return await real.receive(max, call);
      },
    });
  const wrap = (real: PubSubDriver): PubSubDriver =>
    changedDriver(real, {
      async open(spec, call) {
        broker.opened += 1;
        call.signal.throwIfAborted();
        const error = broker.openErrors.shift();
        if (error) throw error;
        return failing(await real.open(spec, call));
      },
      classify: (error) => (error === away ? "unavailable" : real.classify(error)),
    });
  return await startSidecar({ wrap });
}

describe("a subscription on a broker that is away", () => {
  it("opens when the broker is back", async () => {
    const broker: Broker = { opened: 0, openErrors: [away, away], receiveErrors: [] };
    sidecar = await startWith(broker);
    const stream = sidecar.stream();
    await sidecar.publish("t", "a");
    await stream.open({ topic: "t" });
    expect(textOf(await stream.delivery())).toBe("a");
    expect(broker.opened).toBe(3);
  });

  it("is closed at once when the broker is there and refuses it", async () => {
    sidecar = await startWith({ opened: 0, openErrors: [refused], receiveErrors: [] });
    const { reason } = await refusalOf(sidecar.stream().open({ topic: "t" }));
    expect(reason).toBe("COMPONENT_FAILED");
  });

  it("is forgotten when every stream that waited for it is gone", async () => {
    const broker: Broker = {
      opened: 0,
      openErrors: Array.from({ length: 1000 }, () => away),
      receiveErrors: [],
    };
    sidecar = await startWith(broker);
    const [one, other] = [sidecar.stream(), sidecar.stream()];
    for (const stream of [one, other]) stream.open({ topic: "t" }).catch(() => {});
    await expect.poll(() => broker.opened).toBeGreaterThan(1);
    await one.vanish();
    expect([...sidecar.bus.subscriptions]).toHaveLength(1);
    await other.vanish();
    await expect.poll(() => [...sidecar.bus.subscriptions]).toEqual([]);
  });

  it("keeps the sidecar from closing no longer than anything else does", async () => {
    const broker: Broker = {
      opened: 0,
      openErrors: Array.from({ length: 1000 }, () => away),
      receiveErrors: [],
    };
    sidecar = await startWith(broker);
    sidecar
      .stream()
      .open({ topic: "t" })
      .catch(() => {});
    await expect.poll(() => broker.opened).toBeGreaterThan(0);
    const startedAt = performance.now();
    await sidecar.bus.close();
    expect(performance.now() - startedAt).toBeLessThan(2000);
  });

  it("joins its group again however often that fails, once receiving has failed for a while", async () => {
    const broker: Broker = { opened: 0, openErrors: [], receiveErrors: [away, away, away] };
    sidecar = await startWith(broker);
    const stream = sidecar.stream();
    // Joining fails twice, with whatever it may be, after the first time.
    await stream.open({ topic: "t" });
    broker.openErrors.push(away, refused);
    await sidecar.publish("t", "a");
    expect(textOf(await stream.delivery())).toBe("a");
    expect(broker.opened).toBe(4);
  });
});
