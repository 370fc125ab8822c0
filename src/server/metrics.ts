/** The metrics port: Prometheus text over HTTP/1.1, and nothing else. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { metricsContentType } from "../telemetry/metrics.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { sendError } from "./http-exchange.ts";
import { defaultLimits } from "./limits.ts";
import { Connections, type Listening, listen } from "./listening.ts";

/** What a metrics server is made of. */
export interface MetricsServerOptions {
  /** The address to listen on, such as "127.0.0.1". */
  readonly host: string;
  /** 0 to 65535; 0 takes a free one. */
  readonly port: number;
  /** Where the metrics are, with a leading slash. Default "/metrics"; "/" answers as well. */
  readonly path?: string;
  readonly telemetry: Telemetry;
}

/** Scrapers that may be connected at once: a few, and no flood. */
const maxConnections = 64;

/** Serves the metrics. Rejects when the address cannot be had. */
export async function startMetricsServer(options: MetricsServerOptions): Promise<Listening> {
  const connections = new Connections();
  const server = createServer(
    { maxHeaderSize: defaultLimits.maxHeaderBytes, headersTimeout: defaultLimits.headersTimeoutMs },
    (request, response) => {
      answer(options, request, response).catch((error: unknown) => {
        options.telemetry.log.error({ err: error }, "the metrics could not be told");
        response.destroy();
      });
    },
  );
  server.maxConnections = maxConnections;
  server.on("connection", (socket) => connections.add(socket));
  const { address, port } = await listen(server, options.host, options.port);
  return {
    name: "metrics",
    address,
    port,
    async close(graceMs) {
      server.close();
      if (await connections.closed(graceMs)) return;
      connections.destroy();
      await connections.closed(graceMs);
    },
  };
}

async function answer(
  options: MetricsServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = (request.url ?? "").split("?", 1)[0];
  if (path !== "/" && path !== (options.path ?? "/metrics")) {
    sendError(response, 404, "not_found", "nothing is served at this path");
    return;
  }
  if (request.method !== "GET" && request.method !== "HEAD") {
    sendError(response, 405, "unimplemented", "only GET and HEAD are served at this path");
    return;
  }
  const body = Buffer.from(await options.telemetry.metrics.text());
  response.writeHead(200, { "content-type": metricsContentType, "content-length": body.length });
  response.end(body);
}
