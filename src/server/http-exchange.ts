/** A request on an HTTP port and its answer, of either version of the protocol. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

export type HttpRequest = IncomingMessage | Http2ServerRequest;
export type HttpResponse = ServerResponse | Http2ServerResponse;

/** Answers with an error as Connect's unary calls have it. */
export function sendError(response: HttpResponse, status: number, code: string, message: string): void {
  const body = Buffer.from(JSON.stringify({ code, message }));
  const headers = { "content-type": "application/json", "content-length": body.length };
  if ("stream" in response) response.writeHead(status, headers);
  else response.writeHead(status, headers);
  response.end(body);
}
