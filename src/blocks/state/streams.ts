/** The streaming methods of the state API. */
import type { HandlerContext } from "@connectrpc/connect";
import type {
  ReadResponse,
  SetRequest,
  WatchResponse,
  WriteRequest,
  WriteResponse,
} from "../../../gen/outrider/state/v1/state_pb.ts";
import { invalidRequest } from "../../faults.ts";
import type { Change, WatchBatch, WatchSelector } from "./driver.ts";
import { changeMessage, chunkPart, itemPart } from "./messages.ts";
import { positionToken } from "./queries.ts";
import { parseBegin } from "./requests.ts";
import { fits, fittedBytes, withoutValue } from "./sizes.ts";
import type { StateStore } from "./store.ts";

/** The longest chunk of a Read, in bytes. */
const maxChunkBytes = 256 * 1024;

/** The messages of a Watch, none longer than `maxBytes` and a little. */
export async function* watch(
  store: StateStore,
  selector: WatchSelector,
  maxBytes: number,
  context: HandlerContext,
): AsyncGenerator<WatchResponse> {
  for await (const batch of store.watch(selector, context)) yield* watchMessages(store, batch, maxBytes);
}

/** One batch, in as many messages as it needs; what is true after all of it is said in the last. */
function* watchMessages(store: StateStore, batch: WatchBatch, maxBytes: number): Generator<WatchResponse> {
  let changes: Change[] = [];
  let bytes = 0;
  for (const { key, item } of batch.changes) {
    const change = { key, item: item && (fits(item, maxBytes) ? item : withoutValue(item)) };
    const changeBytes = Buffer.byteLength(key) + (item ? fittedBytes(item, maxBytes) : 0);
    if (bytes + changeBytes > maxBytes && changes.length > 0) {
      yield watchMessage(changes, "", false);
      changes = [];
      bytes = 0;
    }
    changes.push(change);
    bytes += changeBytes;
  }
  yield watchMessage(changes, positionToken(store.name, batch.position), batch.snapshotComplete);
}

function watchMessage(
  changes: readonly Change[],
  position: string,
  snapshotComplete: boolean,
): WatchResponse {
  return {
    $typeName: "outrider.state.v1.WatchResponse",
    changes: changes.map(changeMessage),
    position,
    snapshotComplete,
  };
}

/** The messages of a Read, none longer than `maxBytes` and a little. */
export async function* read(
  store: StateStore,
  key: string,
  maxBytes: number,
  context: HandlerContext,
): AsyncGenerator<ReadResponse> {
  const longest = Math.min(maxBytes, maxChunkBytes);
  for await (const part of store.read(key, context)) {
    if (!(part instanceof Uint8Array)) yield itemPart(part);
    else
      for (let at = 0; at < part.byteLength; at += longest) yield chunkPart(part.subarray(at, at + longest));
  }
}

/** Does a Write. Holds one message at a time. */
export async function write(
  requests: AsyncIterable<WriteRequest>,
  storeOf: (component: string) => StateStore,
  context: HandlerContext,
): Promise<WriteResponse> {
  const upload = new Upload(requests);
  try {
    const begin = await upload.begin();
    const store = storeOf(begin.component);
    const etag = await store.write(parseBegin(begin), upload.chunks(), context);
    return {
      $typeName: "outrider.state.v1.WriteResponse",
      etag,
      valueBytes: BigInt(upload.valueBytes),
    };
  } finally {
    upload.stop();
  }
}

/** The requests of a Write. */
class Upload {
  /** Of the chunks that were read. */
  valueBytes = 0;
  readonly #requests: AsyncIterator<WriteRequest>;

  constructor(requests: AsyncIterable<WriteRequest>) {
    this.#requests = requests[Symbol.asyncIterator]();
  }

  async begin(): Promise<SetRequest> {
    const first = await this.#requests.next();
    if (!first.done && first.value.part.case === "begin") return first.value.part.value;
    const came = first.done ? "there was no message" : `it has ${first.value.part.case ?? "neither part"}`;
    throw invalidRequest({ field: "begin", description: `must be in the first message: ${came}` });
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const { done, value } = await this.#requests.next();
      if (done) return;
      if (value.part.case === "begin") {
        throw invalidRequest({ field: "begin", description: "must be in the first message only" });
      }
      if (value.part.case === undefined) {
        throw invalidRequest({ field: "chunk", description: "must be in each message after the first" });
      }
      this.valueBytes += value.part.value.byteLength;
      if (value.part.value.byteLength > 0) yield value.part.value;
    }
  }

  /** Reads no more. Not awaited: a stream that waits for its client answers when that is over. */
  stop(): void {
    this.#requests.return?.().catch(() => undefined);
  }
}
