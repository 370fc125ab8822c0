/**
 * What an application on one of Dapr's official SDKs does in its life, step by step, against a sidecar in daprd's place.
 * The programs, one for each language, say what came of each step on a line of JSON; here is what must have come of it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { missing, Shell } from "../../../examples/checkout.ts";
import { freePort } from "../../../servers/ports.ts";
import { startRedis } from "../../../servers/redis.ts";
import { program } from "../../../servers/tools.ts";
import { until } from "../../../servers/until.ts";
import { Daprd } from "../daprd.ts";

/** An error that tells of an etag which is not the item's; what it looks like is the SDK's matter. */
const etagError = expect.stringMatching(/etag/i);
const text = (data: string) => ({ data, type: "text/plain" });

/** In the order in which they are done: a title, and what must come of it. */
const steps = {
  wait: ["waits until the sidecar is there", true],
  "state.get": ["reads what it saved, with an etag", { value: "tea", etag: true }],
  "state.missing": ["reads nothing where nothing is", ""],
  "state.bulk-get": ["saves and reads several items at once", { one: "uno", two: "due", none: "" }],
  "state.stale-etag": ["cannot save with a stale etag", { error: etagError, value: "tea" }],
  "state.etag": ["saves with the etag that it has read", "coffee"],
  "state.stale-delete": ["cannot delete with a stale etag", { error: etagError, value: "coffee" }],
  "state.delete": ["deletes", ""],
  "state.transaction": ["saves and deletes in a transaction", { one: "eins", two: "" }],
  "state.stale-transaction": [
    "changes nothing by a transaction with a stale etag",
    { error: etagError, one: "eins", three: "" },
  ],
  "state.bulk-delete": ["deletes several items at once", { one: "", two: "" }],
  "state.ttl": ["saves for a while only", { before: "soon gone", after: "" }],
  "metadata.get": [
    "learns about its sidecar",
    { id: expect.any(String), components: ["pubsub", "secrets", "store"] },
  ],
  "metadata.set": ["adds to the metadata", "green"],
  "secrets.get": ["reads a secret", { "db:password": "hunter2" }],
  "secrets.bulk": [
    "reads all secrets",
    { "db:password": { "db:password": "hunter2" }, token: { token: "abc" } },
  ],
  "secrets.missing": [
    "is told of a secret that is not there",
    expect.stringMatching(/failed getting secret|ERR_SECRET_GET/),
  ],
  "listen.json": ["listens, and gets JSON", [{ data: { id: 1 }, type: "application/json" }]],
  "listen.text": ["listens, and gets text", [text("hello")]],
  "listen.raw": ["listens for records as they are", ["as it is"]],
  "listen.many": ["publishes several events at once", { failed: 0, heard: ["a", "b", "c"] }],
  "listen.declared": [
    "listens where a file of the resources says so",
    [{ data: { id: 2 }, type: "application/json" }],
  ],
  "listen.gathered": ["listens for several events at once", ["a", "b", "c"]],
  "listen.routed": [
    "publishes a CloudEvent of its own making, and gets it where a rule sends it",
    [{ data: { id: 4 }, type: "application/json" }],
  ],
  "listen.retry": ["gets again what it wants to get again", 2],
  "listen.drop": ["finds what it does not want among the dead letters", { dead: "bad", times: 1 }],
  "stream.json": ["gets JSON on a stream", [{ data: { id: 3 }, type: "application/json" }]],
  "stream.retry": ["gets again on a stream what it wants to get again", 2],
  "stream.drop": [
    "finds what it does not want on a stream among the dead letters",
    { dead: "bad", times: 1 },
  ],
  "stream.async": [
    "gets JSON on a stream of its asynchronous client",
    [{ data: { id: 5 }, type: "application/json" }],
  ],
  shutdown: ["ends the sidecar", true],
} as const;

/** The name of a step. */
export type Step = keyof typeof steps;

/** An application to send on a tour. */
export interface TourOptions {
  readonly language: "python" | "javascript" | "go" | "java";
  /** How the application listens; JavaScript's client speaks the same. */
  readonly protocol: "http" | "grpc";
  /** Where its state and events are. On Redis the sidecar and the application ask each other for tokens, too. */
  readonly on: "sqlite" | "redis";
  /** Makes what there is to make in the folder, and returns the command line. Throws when the SDK is not there. */
  readonly prepare: (folder: string) => Promise<string>;
  /** Steps that this SDK has nothing for. */
  readonly without: readonly Step[];
  /** What comes of a step in this language, where that differs. */
  readonly outcomes?: Partial<Readonly<Record<Step, unknown>>>;
}

/** Longer than anything takes on a busy machine: a step that got stuck must not hide the others. */
const stepWithinMs = 90_000;

/** Describes a tour: each step is a test. */
export function describeTour(options: TourOptions): void {
  const { language, protocol, on, without, outcomes = {} } = options;
  const title = `an application on Dapr's SDK for ${names[language]} that listens with ${protocol}, on ${on}`;
  describe(title, { timeout: stepWithinMs + 30_000 }, () => {
    let starting: Promise<Tour | string>;
    beforeAll(async () => {
      starting = Tour.start(options);
      // Why it could not start is for each step to say.
      await starting.catch(() => {});
    }, 300_000);
    afterAll(async () => {
      const tour = await starting.catch(() => "");
      if (typeof tour !== "string") await tour[Symbol.asyncDispose]();
    });

    for (const step of Object.keys(steps) as Step[]) {
      if (without.includes(step)) continue;
      it(steps[step][0], async ({ skip }) => {
        const tour = await starting;
        if (typeof tour === "string") return skip(tour);
        expect(await tour.outcome(step)).toEqual({ step, value: outcomes[step] ?? steps[step][1] });
        if (step === "shutdown") expect(await tour.daprd.exitCode(), "the sidecar's exit code").toBe(0);
      });
    }
  });
}

const names = { python: "Python", javascript: "JavaScript", go: "Go", java: "Java" } as const;

/** One application, and its sidecar. */
class Tour implements AsyncDisposable {
  readonly daprd: Daprd;
  readonly #application: Shell;
  readonly #release: AsyncDisposableStack;
  #ended = false;

  private constructor(daprd: Daprd, application: Shell, release: AsyncDisposableStack) {
    this.daprd = daprd;
    this.#application = application;
    this.#release = release;
    void application.ended.then(() => {
      this.#ended = true;
    });
  }

  /** Why it cannot be, if the SDK or Redis cannot be had here. Throws where they must be. */
  static async start({ language, on, prepare, protocol }: TourOptions): Promise<Tour | string> {
    await using release = new AsyncDisposableStack();
    const folder = await mkdtemp(join(tmpdir(), "outrider-sdk-"));
    release.defer(() => rm(folder, { recursive: true, force: true }));
    let command = "";
    const reason = await missing(language, async () => {
      command = await prepare(folder);
    });
    if (reason !== undefined) return reason;
    if (on === "redis") {
      const lacking = await missing("redis", async () => program("redis-server"));
      if (lacking !== undefined) return lacking;
    }
    const redis = on === "redis" ? release.use(await startRedis()) : undefined;
    const tokens: Record<string, string> = redis
      ? { DAPR_API_TOKEN: "for-the-sidecar", APP_API_TOKEN: "for-the-application" }
      : {};
    const port = await freePort();
    const daprd = release.use(
      await Daprd.start({
        resources: resources(redis && `${redis.host}:${redis.port}`),
        files: { "secrets.json": '{"db":{"password":"hunter2"},"token":"abc"}' },
        app: { port, protocol },
        env: { PATH: process.env["PATH"] ?? "", ...tokens },
        wait: false,
      }),
    );
    const env = { APP_PORT: port, DAPR_HTTP_PORT: daprd.httpPort, DAPR_GRPC_PORT: daprd.grpcPort, ...tokens };
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const application = release.use(new Shell(`${variables.join(" ")} exec ${command} ${protocol}`, folder));
    return new Tour(daprd, application, release.move());
  }

  /** What the application said of a step. */
  async outcome(step: Step): Promise<unknown> {
    const find = () => {
      const said = this.#said().find((each) => each.step === step);
      if (!said && this.#ended) throw new Error("it has ended");
      return said;
    };
    return await until(find, `it says something of ${step}`, this.#ended ? 0 : stepWithinMs).catch(
      (cause) => {
        throw new Error(
          `nothing came of ${step}\n\nThe application:\n${this.#application.output}\n\nThe sidecar:\n${this.daprd.log}`,
          { cause },
        );
      },
    );
  }

  #said(): { readonly step: string }[] {
    const lines = this.#application.output.matchAll(/\[tour\] (\{.*\})$/gm);
    return [...lines].map(([, json]) => JSON.parse(json!) as { step: string });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#release.disposeAsync();
  }
}

function resources(redisHost: string | undefined): string {
  const kind = redisHost === undefined ? "sqlite" : "redis";
  const host: Record<string, string> = redisHost === undefined ? {} : { redisHost };
  return [
    component("store", `state.${kind}`, host),
    component("pubsub", `pubsub.${kind}`, host),
    component("secrets", "secretstores.local.file", { secretsFile: "resources/secrets.json" }),
    `apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: declared}
spec: {pubsubname: pubsub, topic: declared, routes: {default: /declared}}
`,
  ].join("---\n");
}

function component(name: string, type: string, fields: Readonly<Record<string, string>>): string {
  const metadata = Object.entries(fields).map(([field, value]) => ({ name: field, value }));
  return `apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: ${name}}
spec: {type: ${type}, version: v1, metadata: ${JSON.stringify(metadata)}}
`;
}
