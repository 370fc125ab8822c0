/** Those in this process who wait for events, and what wakes them. */

/** Somebody who waits. */
export interface Receiver {
  readonly group: number;
  /** Undefined: a pattern, which any topic may concern. */
  readonly topic: number | undefined;
  /** Says that looking makes sense. */
  wake(): void;
}

/** See the head of this file. */
export class Receivers {
  readonly #receivers = new Set<Receiver>();
  /** The numbers last seen. */
  readonly #seen = new Map<number, number>();

  add(receiver: Receiver): void {
    this.#receivers.add(receiver);
  }

  delete(receiver: Receiver): void {
    this.#receivers.delete(receiver);
    if (receiver.topic !== undefined && !this.topics.includes(receiver.topic))
      this.#seen.delete(receiver.topic);
  }

  get size(): number {
    return this.#receivers.size;
  }

  get topics(): number[] {
    return [...new Set([...this.#receivers].flatMap(({ topic }) => (topic === undefined ? [] : [topic])))];
  }

  get groups(): number[] {
    return [...new Set([...this.#receivers].map(({ group }) => group))];
  }

  /** A topic has news. */
  wakeTopic(topic: number): void {
    for (const receiver of this.#receivers)
      if (receiver.topic === topic || receiver.topic === undefined) receiver.wake();
  }

  /** A group has deliveries that are free, or will be. */
  wakeGroup(group: number): void {
    for (const receiver of this.#receivers) if (receiver.group === group) receiver.wake();
  }

  wakeAll(): void {
    for (const receiver of this.#receivers) receiver.wake();
  }

  /** What somebody else said: words of `topicWord` and `groupWord`. */
  hear(payload: string): void {
    for (const word of payload.split(" ")) {
      const id = Number(word.slice(1));
      if (word.startsWith("t")) this.wakeTopic(id);
      else if (word.startsWith("g")) this.wakeGroup(id);
    }
  }

  /** The number of a topic's last event, as a look found it. */
  found(topic: number, lastSeq: number): void {
    if (this.#seen.get(topic) === lastSeq) return;
    this.#seen.set(topic, lastSeq);
    this.wakeTopic(topic);
  }

  /** A look has no way to tell what is new for patterns. */
  wakePatterns(): void {
    for (const receiver of this.#receivers) if (receiver.topic === undefined) receiver.wake();
  }
}

/** What is told of a topic with news. */
export function topicWord(topic: number): string {
  return `t${topic}`;
}

/** What is told of a group with something free. */
export function groupWord(group: number): string {
  return `g${group}`;
}
