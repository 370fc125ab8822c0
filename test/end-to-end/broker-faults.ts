/** What happens to brokers and to the network before them. */
import type { Server } from "../servers/server.ts";
import type { Toxic, Proxy as Way } from "../servers/toxiproxy.ts";
import type { Fault } from "./crash-test.ts";
import { pause } from "./program.ts";
import type { Random } from "./random.ts";

const mostDownMs = 1500;
/** Long enough that some clients take the broker for dead. */
const leastFrozenMs = 300;
const mostFrozenMs = 4000;
const leastCutMs = 100;
const mostCutMs = 3000;

/** The faults of a broker, with a way to it of its own for each of some sidecars. */
export function brokerFaults(broker: Server, ways: readonly Way[]): Fault[] {
  /** One way or all of them, so that members lose each other as well as the broker. */
  const some = (random: Random) => (random.below(3) === 0 ? ways : [ways[random.below(ways.length)]!]);
  const onTheWay = async (random: Random, harm: (way: Way) => Promise<void>) => {
    const harmed = some(random);
    await Promise.all(harmed.map(harm));
    await pause(random.between(leastCutMs, mostCutMs));
    await Promise.all(harmed.map((way) => way.mend()));
  };
  const poisoned = (random: Random, toxic: Toxic) => {
    const direction = random.below(2) === 0 ? "upstream" : "downstream";
    return onTheWay(random, (way) => way.poison(toxic, direction));
  };
  return [
    {
      name: "broker killed",
      weight: 3,
      strike: async (random) => {
        await broker.kill();
        await pause(random.below(mostDownMs));
        await broker.restart();
      },
    },
    {
      name: "broker stopped as planned",
      weight: 1,
      strike: async (random) => {
        await broker.stop();
        await pause(random.below(mostDownMs));
        await broker.restart();
      },
    },
    {
      name: "broker frozen",
      weight: 2,
      strike: async (random) => {
        await broker.freeze();
        await pause(random.between(leastFrozenMs, mostFrozenMs));
        broker.thaw();
      },
    },
    { name: "network cut", weight: 2, strike: (random) => onTheWay(random, (way) => way.cut()) },
    {
      name: "connections reset",
      weight: 1,
      strike: (random) => poisoned(random, { type: "reset_peer", timeout: random.below(200) }),
    },
    {
      // Nothing is closed and nothing arrives: what a firewall does that has forgotten a connection.
      name: "network silent",
      weight: 1,
      strike: (random) => poisoned(random, { type: "timeout", timeout: 0 }),
    },
    {
      name: "network slow",
      weight: 1,
      strike: (random) =>
        poisoned(random, { type: "latency", latency: random.between(20, 400), jitter: random.below(100) }),
    },
    {
      name: "network narrow",
      weight: 1,
      strike: (random) => poisoned(random, { type: "bandwidth", rate: random.between(20, 500) }),
    },
  ];
}
