/** Apache Kafka: one node that is broker and controller. */
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Kafka, logLevel } from "kafkajs";
import { loadLibrary } from "../../src/components/kafka/kafkajs/library.ts";
import { certificates } from "./certificates.ts";
import { type KafkaPorts, kafkaProperties } from "./kafka-properties.ts";
import { oncePerRun } from "./once.ts";
import { freePorts } from "./ports.ts";
import { serverFolder } from "./run-folder.ts";
import { type Server, ServerProcess } from "./server.ts";
import { kafkaJars, program, toolsFolder } from "./tools.ts";

const run = promisify(execFile);

/**
 * Where a broker is. Users, at the SASL listeners: alice with password secret; admin with admin-secret, whom no ACL
 * binds. OAUTHBEARER takes unsigned tokens (alg none). Who shows the certificate of alice is alice. Clients at other
 * listeners are super users.
 */
export interface KafkaAddress {
  readonly host: string;
  /** Of the plain listener. */
  readonly port: number;
  readonly ports: KafkaPorts;
}

/** A broker of a test's own. */
export type KafkaServer = Server & KafkaAddress;

/** Lines of server.properties that replace or join the usual ones, such as "auto.create.topics.enable". */
export type KafkaOptions = Readonly<Record<string, string>>;

/** The broker that the tests of a run share: topics and groups must have fresh names. It creates topics on use. */
export async function sharedKafka(): Promise<KafkaAddress> {
  await mendKafkajs();
  return await oncePerRun("kafka", async () => {
    const { host, port, ports } = await startKafka();
    return { host, port, ports };
  });
}

/** Starts one, in one to three seconds. It takes 200 MB. */
export async function startKafka(options: KafkaOptions = {}): Promise<KafkaServer> {
  const jars = kafkaJars();
  if (jars === undefined) throw new Error("Kafka's jars are not there: .ci/servers.sh fetches them");
  const [made, tls] = await Promise.all([template(jars), certificates(), mendKafkajs()]);
  const ports = await somePorts();
  const folder = serverFolder("kafka");
  await cp(join(made, "log.dirs"), options["log.dirs"] ?? join(folder, "log.dirs"), { recursive: true });
  await writeFile(join(folder, "server.properties"), kafkaProperties(folder, ports, tls, options));
  const server = await ServerProcess.start({
    name: "Kafka",
    program: program("java"),
    words: [
      ...javaFlags,
      `-XX:SharedArchiveFile=${join(made, "classes.jsa")}`,
      ...classPath(jars),
      "kafka.Kafka",
      join(folder, "server.properties"),
    ],
    port: ports.plain,
    folder,
    ready: () => answers(ports.plain),
  });
  return Object.assign(server, { ports });
}

/** A test that asks for a broker has clients of its own there, whose timers Node would warn of: see the component. */
async function mendKafkajs(): Promise<void> {
  await loadLibrary();
}

const javaFlags = [
  "-Xmx384m",
  "-Xms64m",
  "-XX:+UseSerialGC",
  "-XX:TieredStopAtLevel=1",
  "-Xshare:auto",
  "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];

function classPath(jars: string): string[] {
  return ["-cp", join(jars, "*")];
}

async function somePorts(): Promise<KafkaPorts> {
  const [plain, sasl, tls, saslTls, mutualTls, proxied, proxy, controller] = (await freePorts(8)) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  return { plain, sasl, tls, saslTls, mutualTls, proxied, proxy, controller };
}

/**
 * A formatted data folder, and an archive of the classes that a broker loads, which halves the time of its start. They
 * are made once and kept with the tools, by the versions of Kafka and Java.
 */
async function template(jars: string): Promise<string> {
  const { stderr: version } = await run(program("java"), ["-version"]);
  const javaVersion = version.split("\n").at(-2)!.replace(/\W+/g, "-");
  const path = join(toolsFolder(), `${jars.split("/").at(-1)}-ready-${javaVersion.slice(0, 80)}`);
  return await oncePerRun("kafka-template", async () => {
    if (!(await exists(path))) await makeTemplate(jars, path);
    return path;
  });
}

async function makeTemplate(jars: string, path: string): Promise<void> {
  await mkdir(toolsFolder(), { recursive: true });
  const part = await mkdtemp(join(toolsFolder(), "kafka-ready-"));
  const [tls, ports] = await Promise.all([certificates(), somePorts()]);
  const properties = join(part, "server.properties");
  await writeFile(properties, kafkaProperties(part, ports, tls, {}));
  const scram = [256, 512].flatMap((bits) => [
    "--add-scram",
    `SCRAM-SHA-${bits}=[name=alice,password=secret]`,
  ]);
  const storage = [
    "kafka.tools.StorageTool",
    "format",
    "-t",
    "b3V0cmlkZXItdGVzdHMhIQ",
    "-c",
    properties,
    ...scram,
  ];
  await run(program("java"), [...javaFlags, ...classPath(jars), ...storage]);
  await cp(join(part, "log.dirs"), join(part, "fresh"), { recursive: true });
  const broker = await ServerProcess.start({
    name: "Kafka",
    program: program("java"),
    words: [
      ...javaFlags,
      `-XX:ArchiveClassesAtExit=${join(part, "classes.jsa")}`,
      ...classPath(jars),
      "kafka.Kafka",
      properties,
    ],
    port: ports.plain,
    folder: part,
    ready: () => answers(ports.plain),
  });
  await broker.stop();
  await rm(join(part, "log.dirs"), { recursive: true });
  await rename(join(part, "fresh"), join(part, "log.dirs"));
  // Another run may have been quicker: then its work is as good.
  await rename(part, path).catch(() => rm(part, { recursive: true }));
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

/** The socket accepts a little before the broker answers. */
async function answers(port: number): Promise<boolean> {
  const client = new Kafka({
    brokers: [`127.0.0.1:${port}`],
    logLevel: logLevel.NOTHING,
    connectionTimeout: 1000,
    requestTimeout: 2000,
    retry: { retries: 0 },
  });
  const admin = client.admin();
  try {
    await admin.connect();
    return (await admin.describeCluster()).brokers.length === 1;
  } finally {
    await admin.disconnect();
  }
}
