// What an application on Dapr's SDK for JavaScript does in its life. Says what came of each step: see ../tour.ts.
import dapr from "@dapr/dapr";

const {
  CommunicationProtocolEnum,
  DaprClient,
  DaprPubSubStatusEnum,
  DaprServer,
  HttpMethod,
  StateConcurrencyEnum,
} = dapr;
const overHttp = process.argv[2] === "http";
const communicationProtocol = overHttp ? CommunicationProtocolEnum.HTTP : CommunicationProtocolEnum.GRPC;
const clientOptions = {
  daprHost: "127.0.0.1",
  daprPort: process.env[overHttp ? "DAPR_HTTP_PORT" : "DAPR_GRPC_PORT"],
  communicationProtocol,
};
const options = { concurrency: StateConcurrencyEnum.CONCURRENCY_FIRST_WRITE };
const stale = "99";

const heard = new Map();

function say(step, outcome) {
  process.stdout.write(`[tour] ${JSON.stringify({ step, ...outcome })}\n`);
}

async function step(name, work) {
  try {
    say(name, { value: await work() });
  } catch (error) {
    say(name, { error: describe(error) });
  }
}

function describe(error) {
  return error instanceof Error ? `${error.name}: ${error.message}` : JSON.stringify(error);
}

/** What went wrong: some methods throw it, some return it. */
async function failureOf(work) {
  try {
    const { error } = (await work) ?? {};
    return error === undefined ? "it did not fail" : describe(error);
  } catch (error) {
    return describe(error);
  }
}

/** Returns how often this topic has been heard. */
function record(topic, data) {
  const events = heard.get(topic) ?? [];
  heard.set(topic, [...events, data]);
  return events.length + 1;
}

async function hear(topic, count = 1) {
  for (const end = Date.now() + 30_000; ; await new Promise((again) => setTimeout(again, 20))) {
    const events = heard.get(topic) ?? [];
    if (events.length >= count) return events;
    if (Date.now() > end) throw new Error(`${topic} was not heard ${count} times`);
  }
}

async function listen() {
  const server = new DaprServer({
    serverHost: "127.0.0.1",
    serverPort: process.env.APP_PORT,
    communicationProtocol,
    clientOptions,
  });
  const handle = (topic) => async (data) => {
    const times = record(topic, data);
    if (topic === "retried" && times === 1) return DaprPubSubStatusEnum.RETRY;
    return topic === "dropped" ? DaprPubSubStatusEnum.DROP : DaprPubSubStatusEnum.SUCCESS;
  };
  const { pubsub } = server;
  for (const topic of ["orders", "notes", "many", "retried", "dead"])
    await pubsub.subscribe("pubsub", topic, handle(topic));
  await pubsub.subscribe("pubsub", "raw", handle("raw"), undefined, { rawPayload: "true" });
  await pubsub.subscribeWithOptions("pubsub", "dropped", {
    callback: handle("dropped"),
    deadLetterTopic: "dead",
  });
  await pubsub.subscribeBulk("pubsub", "gathered", handle("gathered"), { maxMessagesCount: 10 });
  await pubsub.subscribeWithOptions("pubsub", "kinds", {
    route: { default: "/plain", rules: [{ match: 'event.type == "special"', path: "/special" }] },
  });
  for (const path of ["plain", "special"])
    pubsub.subscribeToRoute("pubsub", "kinds", `/${path}`, handle(path));
  // A file of the sidecar's resources names this route.
  if (overHttp)
    await server.invoker.listen("declared", ({ body }) => void record("declared", JSON.parse(body).data), {
      method: HttpMethod.POST,
    });
  await server.start();
}

async function state({ state }) {
  const read = (key) => state.get("store", key);
  const etagOf = async (key) => (await state.getBulk("store", [key]))[0].etag;

  await step("state.get", async () => {
    await state.save("store", [{ key: "drink", value: "tea" }]);
    return { value: await read("drink"), etag: (await etagOf("drink")) !== "" };
  });
  await step("state.missing", () => read("nothing"));
  await step("state.bulk-get", async () => {
    await state.save("store", [
      { key: "one", value: "uno" },
      { key: "two", value: "due" },
    ]);
    const items = await state.getBulk("store", ["one", "two", "none"]);
    return Object.fromEntries(items.map(({ key, data }) => [key, data ?? ""]));
  });
  await step("state.stale-etag", async () => {
    const item = { key: "drink", value: "milk", etag: stale, options };
    return { error: await failureOf(state.save("store", [item])), value: await read("drink") };
  });
  await step("state.etag", async () => {
    await state.save("store", [{ key: "drink", value: "coffee", etag: await etagOf("drink"), options }]);
    return read("drink");
  });
  await step("state.stale-delete", async () => {
    const error = await failureOf(state.delete("store", "drink", { etag: stale, ...options }));
    return { error, value: await read("drink") };
  });
  await step("state.delete", async () => {
    await state.delete("store", "drink");
    return read("drink");
  });
  await step("state.transaction", async () => {
    await state.transaction("store", [
      { operation: "upsert", request: { key: "one", value: "eins" } },
      { operation: "delete", request: { key: "two" } },
    ]);
    return { one: await read("one"), two: await read("two") };
  });
  await step("state.stale-transaction", async () => {
    const transaction = state.transaction("store", [
      { operation: "upsert", request: { key: "three", value: "tre" } },
      { operation: "upsert", request: { key: "one", value: "wrong", etag: stale } },
    ]);
    return { error: await failureOf(transaction), one: await read("one"), three: await read("three") };
  });
  await step("state.ttl", async () => {
    await state.save("store", [{ key: "brief", value: "soon gone", metadata: { ttlInSeconds: "1" } }]);
    const before = await read("brief");
    const end = Date.now() + 20_000;
    while ((await read("brief")) !== "" && Date.now() < end);
    return { before, after: await read("brief") };
  });
}

async function around({ metadata, secret }) {
  await step("metadata.get", async () => {
    const { id, components } = await metadata.get();
    return { id, components: components.map(({ name }) => name).sort() };
  });
  await step("metadata.set", async () => {
    await metadata.set("colour", "green");
    return (await metadata.get()).extended.colour;
  });
  await step("secrets.get", () => secret.get("secrets", "db:password"));
  await step("secrets.bulk", () => secret.getBulk("secrets"));
  await step("secrets.missing", () => failureOf(secret.get("secrets", "nothing")));
}

async function listening({ pubsub }) {
  await step("listen.json", async () => {
    await pubsub.publish("pubsub", "orders", { id: 1 });
    return hear("orders");
  });
  await step("listen.text", async () => {
    await pubsub.publish("pubsub", "notes", "hello");
    return hear("notes");
  });
  await step("listen.raw", async () => {
    await pubsub.publish("pubsub", "raw", "as it is", { metadata: { rawPayload: "true" } });
    return hear("raw");
  });
  await step("listen.many", async () => {
    const { failedMessages } = await pubsub.publishBulk("pubsub", "many", ["a", "b", "c"]);
    return { failed: failedMessages.length, heard: (await hear("many", 3)).sort() };
  });
  if (overHttp)
    await step("listen.declared", async () => {
      await pubsub.publish("pubsub", "declared", { id: 2 });
      return hear("declared");
    });
  await step("listen.gathered", async () => {
    await pubsub.publishBulk("pubsub", "gathered", ["a", "b", "c"]);
    return (await hear("gathered", 3)).sort();
  });
  await step("listen.routed", async () => {
    const event = { specversion: "1.0", id: "4", source: "me", type: "special", data: { id: 4 } };
    await pubsub.publish("pubsub", "kinds", { ...event, datacontenttype: "application/json" });
    return hear("special");
  });
  await step("listen.retry", async () => {
    await pubsub.publish("pubsub", "retried", "again");
    return (await hear("retried", 2)).length;
  });
  await step("listen.drop", async () => {
    await pubsub.publish("pubsub", "dropped", "bad");
    return { dead: (await hear("dead"))[0], times: (await hear("dropped")).length };
  });
}

await listen();
const client = new DaprClient(clientOptions);
await step("wait", async () => {
  await client.start();
  return client.health.isHealthy();
});
await state(client);
await around(client);
await listening(client);
await step("shutdown", async () => {
  await client.sidecar.shutdown();
  return true;
});
process.exit();
