import { MemoryBroker } from "../../src/components/memory/broker/broker.ts";
import { MemoryPubSub } from "../../src/components/memory/pubsub.ts";
import { pubSubConformance } from "../conformance/pubsub.ts";

const broker = new MemoryBroker({ ageMs: 3_600_000, bytes: 64 * 1024 * 1024 });
const open = async () => new MemoryPubSub(broker);
pubSubConformance(open, { second: open });
