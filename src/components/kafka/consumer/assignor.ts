/**
 * Shares the partitions of a group's topics among its members, moving as few as it takes. A partition that is to move
 * is given to nobody at first: its owner finishes what it holds, lets it go and joins again, and then it is given on.
 */
import type { TopicPartition } from "../client.ts";
import type { Subscription } from "./protocol.ts";

/** A member of the group, as the one that shares out sees it. */
export interface Member extends Subscription {
  readonly id: string;
}

interface Share {
  readonly id: string;
  readonly topics: ReadonlySet<string>;
  readonly has: Set<string>;
  readonly ofTopic: Map<string, number>;
}

interface Known extends TopicPartition {
  readonly key: string;
  owner: Share | undefined;
  share: Share | undefined;
}

/** What each member is to have now. `counts` has the number of partitions of every topic that exists. */
export function assign(
  members: readonly Member[],
  counts: ReadonlyMap<string, number>,
): ReadonlyMap<string, readonly TopicPartition[]> {
  // The order does not depend on who answers first, so that the same group is shared out in the same way.
  const shares = members
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    .map(({ id, topics }): Share => ({ id, topics: new Set(topics), has: new Set(), ofTopic: new Map() }));
  const partitions = known(shares, counts);
  keepOwners(members, shares, partitions);
  for (const partition of partitions.values()) {
    if (partition.share === undefined) give(partition, leastLoaded(partition.topic, shares));
  }
  while (balanceOnce(shares, partitions)) {
    // Each move makes the shares more even, so there is an end.
  }
  const assignments = new Map(shares.map(({ id }) => [id, [] as TopicPartition[]]));
  for (const { topic, partition, owner, share } of partitions.values()) {
    if (share && (owner === undefined || owner === share))
      assignments.get(share.id)!.push({ topic, partition });
  }
  return assignments;
}

function known(shares: readonly Share[], counts: ReadonlyMap<string, number>): Map<string, Known> {
  const partitions = new Map<string, Known>();
  for (const topic of new Set(shares.flatMap(({ topics }) => [...topics])).values()) {
    for (let partition = 0; partition < (counts.get(topic) ?? 0); partition += 1) {
      const key = `${partition}/${topic}`;
      partitions.set(key, { topic, partition, key, owner: undefined, share: undefined });
    }
  }
  return partitions;
}

/** Whoever has a partition keeps it, if it still may; of two that say so, the one of the younger generation. */
function keepOwners(
  members: readonly Member[],
  shares: readonly Share[],
  partitions: Map<string, Known>,
): void {
  const byId = new Map(shares.map((share) => [share.id, share]));
  for (const { id, owned } of members.toSorted((a, b) => b.generation - a.generation)) {
    const share = byId.get(id)!;
    for (const { topic, partition } of owned) {
      const one = partitions.get(`${partition}/${topic}`);
      if (one === undefined || one.owner !== undefined) continue;
      one.owner = share;
      if (share.topics.has(topic)) give(one, share);
    }
  }
}

function give(partition: Known, to: Share | undefined): void {
  const { key, topic, share } = partition;
  share?.has.delete(key);
  share?.ofTopic.set(topic, ofTopic(share, topic) - 1);
  to?.has.add(key);
  to?.ofTopic.set(topic, ofTopic(to, topic) + 1);
  partition.share = to;
}

function ofTopic(share: Share, topic: string): number {
  return share.ofTopic.get(topic) ?? 0;
}

function leastLoaded(topic: string, shares: readonly Share[]): Share | undefined {
  let least: Share | undefined;
  for (const share of shares) {
    if (share.topics.has(topic) && (least === undefined || isLess(share, least, topic))) least = share;
  }
  return least;
}

function isLess(one: Share, other: Share, topic: string): boolean {
  const difference = ofTopic(one, topic) - ofTopic(other, topic);
  return difference < 0 || (difference === 0 && one.has.size < other.has.size);
}

/** Moves one partition to where there are fewer; false when all is even. */
function balanceOnce(shares: readonly Share[], partitions: ReadonlyMap<string, Known>): boolean {
  for (const partition of partitions.values()) {
    const { topic, share } = partition;
    const to = leastLoaded(topic, shares);
    if (share === undefined || to === undefined || to === share) continue;
    const fewerOfTopic = ofTopic(share, topic) - ofTopic(to, topic);
    if (fewerOfTopic >= 2 || (fewerOfTopic === 1 && share.has.size - to.has.size >= 2)) {
      give(partition, to);
      return true;
    }
  }
  return false;
}
