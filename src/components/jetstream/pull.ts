/** Requests for messages of a consumer, and the inbox that they come to. */
import { createInbox, type Msg, nanos, type Subscription } from "@nats-io/transport-node";
import type { Connection } from "./connection.ts";

/** How long the server keeps a request that is not filled. */
const expiresMs = 30_000;
/** The server says so often that it still has a request. */
const heartbeatMs = 5000;
/** Without a word for this long, requests are believed to be lost. */
const silenceMs = 3 * heartbeatMs;

/** What a pull tells. */
export interface PullListener {
  onMessage(message: Msg): void;
  /** A request has ended unfilled: more may be wanted. */
  onExpired(): void;
  /** Nothing will come of this pull any more: the consumer is gone, or the server does not know of the requests. */
  onLost(why: string): void;
}

/** See the head of this file. A pull that was lost or stopped is of no more use. */
export class Pull {
  readonly #connection: Connection;
  readonly #subject: string;
  readonly #listener: PullListener;
  readonly #inbox = createInbox();
  readonly #subscription: Subscription;
  readonly #watchdog: NodeJS.Timeout;
  #outstanding = 0;
  #heardAtMs = performance.now();
  #over = false;

  constructor(connection: Connection, stream: string, consumer: string, listener: PullListener) {
    this.#connection = connection;
    this.#subject = `${connection.prefix}.CONSUMER.MSG.NEXT.${stream}.${consumer}`;
    this.#listener = listener;
    this.#subscription = connection.nats.subscribe(this.#inbox, {
      callback: (error, message) => {
        if (error) this.#lose(error.message);
        else this.#heard(message);
      },
    });
    this.#watchdog = setInterval(() => this.#checkSilence(), heartbeatMs).unref();
  }

  /** Messages that the server may still send. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Asks for messages. */
  request(batch: number): void {
    this.#outstanding += batch;
    this.#heardAtMs = performance.now();
    const request = { batch, expires: nanos(expiresMs), idle_heartbeat: nanos(heartbeatMs) };
    this.#connection.nats.publish(this.#subject, JSON.stringify(request), { reply: this.#inbox });
  }

  /** Takes requests back. When it resolves, every message that the server has sent for them has come. */
  async stop(): Promise<void> {
    clearInterval(this.#watchdog);
    if (!this.#over && this.#connection.connected) await this.#subscription.drain().catch(() => undefined);
    else this.#subscription.unsubscribe();
    this.#over = true;
  }

  #heard(message: Msg): void {
    this.#heardAtMs = performance.now();
    const { headers } = message;
    if (!headers || headers.code === 0) {
      if (this.#outstanding > 0) this.#outstanding -= 1;
      this.#listener.onMessage(message);
      return;
    }
    if (headers.code === 100) return;
    const left = Number.parseInt(headers.get("Nats-Pending-Messages"), 10);
    if (headers.code === 408 || (headers.code === 409 && /batch completed/i.test(headers.description))) {
      this.#outstanding = Number.isNaN(left) ? 0 : Math.max(0, this.#outstanding - left);
      this.#listener.onExpired();
    } else this.#lose(headers.code === 503 ? "nobody answers for the consumer" : headers.description);
  }

  #checkSilence(): void {
    if (this.#outstanding === 0 || !this.#connection.connected) this.#heardAtMs = performance.now();
    else if (performance.now() - this.#heardAtMs > silenceMs) this.#lose("the server is silent");
  }

  #lose(why: string): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#watchdog);
    this.#subscription.unsubscribe();
    this.#outstanding = 0;
    this.#listener.onLost(why);
  }
}
