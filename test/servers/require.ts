/**
 * Tests that need a server. Where it cannot be had they are skipped, and the totals at the end say why; with
 * OUTRIDER_TEST_REQUIRE, a list of servers such as "kafka,redis", they fail instead.
 */
import { describe, it } from "vitest";
import { findProgram, kafkaJars } from "./tools.ts";

const programs = {
  kafka: ["java"],
  redis: ["redis-server", "redis-cli"],
  valkey: ["valkey-server", "redis-cli"],
  postgresql: ["initdb", "postgres"],
  pgbouncer: ["pgbouncer"],
  nats: ["nats-server"],
  toxiproxy: ["toxiproxy-server"],
  openssl: ["openssl"],
} as const;

/** What else the variable may name: the languages of examples/ and of Dapr's SDKs, whose tests read it for themselves. */
const languages: readonly string[] = ["python", "go", "java", "javascript"];

/** What a test can need. */
export type Need = keyof typeof programs;

/** Why a server cannot be had here, as a sentence. Undefined if it can. */
function whyMissing(need: Need): string | undefined {
  const absent: string[] = programs[need].filter((name) => findProgram(name) === undefined);
  if (need === "kafka" && kafkaJars() === undefined) absent.push("Kafka's jars");
  if (absent.length === 0) return undefined;
  return `${need} cannot be had: ${absent.join(" and ")} not found (.ci/servers.sh installs all servers)`;
}

/** A `describe` of tests that need servers: one, or several. */
export function describeWith(needs: Need | readonly Need[], title: string, body: () => void): void {
  const all = typeof needs === "string" ? [needs] : needs;
  const lacking = all.filter((need) => whyMissing(need) !== undefined);
  const reasons = lacking.map((need) => whyMissing(need)).join("; ");
  const required = requiredNeeds();
  describe(title, () => {
    if (lacking.length === 0) body();
    else if (lacking.some((need) => required.has(need))) {
      it("has the servers that it needs", () => {
        throw new Error(reasons);
      });
    } else it("runs where the servers that it needs are", ({ skip }) => skip(reasons));
  });
}

function requiredNeeds(): ReadonlySet<string> {
  const names = (process.env["OUTRIDER_TEST_REQUIRE"] ?? "").split(",").map((name) => name.trim());
  const unknown = names.filter((name) => name !== "" && !(name in programs) && !languages.includes(name));
  if (unknown.length > 0)
    throw new Error(`OUTRIDER_TEST_REQUIRE names ${unknown.join(", ")}, which is no server and no language`);
  return new Set(names);
}
