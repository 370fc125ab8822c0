/** Requests to an application pass the handlers of `appHttpPipeline` first. */
import type { HttpPipeline } from "../../../server/http-pipeline.ts";
import type { AppAnswer, AppRequest, HttpClient } from "./http-client.ts";

/** The handlers of the moment: components come and go. Undefined: none. */
export type AppPipeline = () => HttpPipeline | undefined;

/** A client whose requests have the paths and bodies that the handlers make of them. A handler may answer itself. */
export class PipedClient implements HttpClient {
  readonly #client: HttpClient;
  readonly #pipeline: AppPipeline;

  constructor(client: HttpClient, pipeline: AppPipeline) {
    this.#client = client;
    this.#pipeline = pipeline;
  }

  request(request: AppRequest, signal: AbortSignal): Promise<AppAnswer> {
    const pipeline = this.#pipeline();
    if (!pipeline) return this.#client.request(request, signal);
    const { method, path, headers, body } = request;
    // The one who asks is this sidecar, which has no address.
    const header = (name: string) => headers[name] ?? "";
    const passed = pipeline.begin({ method, url: path, header, remoteAddress: "" });
    if ("answer" in passed) {
      const { status, body: said = "" } = passed.answer;
      return Promise.resolve({ status, body: Buffer.from(said).toString() });
    }
    if (!body) return this.#client.request({ ...request, path: passed.url }, signal);
    const changed = pipeline.body(body);
    const own = { ...headers, "content-length": String(changed.byteLength) };
    return this.#client.request({ method, path: passed.url, headers: own, body: changed }, signal);
  }

  close(): void {
    this.#client.close();
  }
}
