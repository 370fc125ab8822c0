/** compose.yaml, as far as it can be judged without Docker. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";

interface Service {
  readonly image: string;
  readonly ports: readonly string[];
  readonly volumes: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly healthcheck: { readonly test: readonly string[] };
}

const compose = parse(readFileSync("compose.yaml", "utf8")) as {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, null>>;
};
const services = Object.entries(compose.services);

describe("compose.yaml", () => {
  it("has each server that a component stands on, where people look for it", () => {
    const ports = services.map(([name, { ports }]) => [
      name,
      ports.map((port) => Number(port.split(":")[1])),
    ]);
    expect(Object.fromEntries(ports)).toEqual({
      kafka: [9092, 29092],
      redis: [6379],
      postgresql: [5432],
      nats: [4222, 8222],
    });
  });

  it("pins each version, keeps each server's data, asks each whether it is well, and shows none to the network", () => {
    for (const [name, { image, ports, volumes, healthcheck }] of services) {
      expect(image).toMatch(/^[a-z/]+:\d+(\.\d+)+(-alpine)?$/);
      expect(ports.filter((port) => !port.startsWith("127.0.0.1:"))).toEqual([]);
      expect(volumes.map((volume) => volume.split(":")[0])).toEqual([name]);
      expect(healthcheck.test[0]).toBe("CMD");
    }
    expect(Object.keys(compose.volumes)).toEqual(services.map(([name]) => name));
  });

  it("tells Kafka's clients on this machine the port that they came by", () => {
    const { environment, ports } = compose.services["kafka"]!;
    const listeners = environment!["KAFKA_ADVERTISED_LISTENERS"]!.split(",");
    for (const port of ports) {
      const [, outside, inside] = port.split(":");
      expect(outside).toBe(inside);
      expect(listeners.filter((each) => each.endsWith(`://localhost:${outside}`))).toHaveLength(1);
    }
  });
});
