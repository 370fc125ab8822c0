/**
 * What this component needs of a Kafka library: the connections of one cluster, with their encryption and
 * authentication, and the requests of the protocol. Groups, batching and retries are ours, so that another library
 * can take the place of the one there is. Every method throws a KafkaError.
 */
import type { KafkaError } from "./errors.ts";
import type { EncodedBatch, FetchedRecords } from "./record-batch.ts";

/** The connections to one cluster. They are made when they are needed, and again when they broke. */
export interface KafkaClient {
  /**
   * The nodes, and these topics or all; one that does not exist has the error UNKNOWN_TOPIC_OR_PARTITION. With
   * `create` the broker may make it, if that is how it is configured.
   */
  metadata(topics: readonly string[] | "all", create: boolean): Promise<readonly TopicMetadata[]>;
  createTopic(topic: NewTopic, timeoutMs: number): Promise<void>;

  /** An identity for an idempotent producer. */
  initProducerId(): Promise<ProducerIdentity>;
  /** One result for each batch, in order. With `acks` 0 nobody answers, and every offset is -1. */
  produce(nodeId: number, request: ProduceRequest): Promise<readonly ProduceResult[]>;

  fetch(nodeId: number, request: FetchRequest): Promise<readonly FetchResult[]>;
  /** Each at a time in milliseconds since 1970, or `earliest`, or `latest`. An offset of -1: no record is that young. */
  listOffsets(nodeId: number, partitions: readonly OffsetQuestion[]): Promise<readonly OffsetAnswer[]>;

  /** `named` is told the id of a new member as soon as the broker gives it, so that another attempt is no second member. */
  joinGroup(request: JoinRequest, named: (memberId: string) => void): Promise<JoinResult>;
  syncGroup(request: GroupMemberId & { readonly assignments: readonly MemberBytes[] }): Promise<Buffer>;
  /** Throws when there is no answer within so many milliseconds. */
  heartbeat(member: GroupMemberId, withinMs: number): Promise<void>;
  leaveGroup(member: GroupMemberId): Promise<void>;
  /** One result for each, in order. A generation of -1: by nobody in the group, which only an empty group lets. */
  commitOffsets(member: GroupMemberId, offsets: readonly CommittedOffset[]): Promise<readonly string[]>;
  /** What the group has committed; partitions without are left out. */
  fetchOffsets(group: string, partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]>;
  deleteGroup(group: string): Promise<void>;

  /** Ends every connection at once; requests under way fail. */
  close(): void;
}

/** Asks for the first record of a partition that still is there. */
export const earliest = -2;
/** Asks for the end of a partition. */
export const latest = -1;

export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

export interface TopicMetadata {
  readonly topic: string;
  /** Kafka's name of the error; "" when there is none. */
  readonly error: string;
  readonly internal: boolean;
  /** The leader of each partition, by its number; -1 when it has none now. */
  readonly leaders: readonly number[];
}

export interface NewTopic {
  readonly topic: string;
  /** -1: as the broker thinks best. */
  readonly partitions: number;
  /** -1: as the broker thinks best. */
  readonly replicationFactor: number;
  readonly configs: Readonly<Record<string, string>>;
}

export interface ProducerIdentity {
  readonly id: bigint;
  readonly epoch: number;
}

export interface ProduceRequest {
  readonly acks: -1 | 0 | 1;
  /** How long the broker may wait for its replicas. */
  readonly timeoutMs: number;
  readonly batches: readonly (TopicPartition & { readonly batch: EncodedBatch })[];
}

export interface ProduceResult extends TopicPartition {
  /** "" when the broker has the batch. */
  readonly error: string;
  /** Of the first record of the batch. */
  readonly baseOffset: number;
}

export interface FetchRequest {
  /** How long the broker may wait for the first byte. */
  readonly maxWaitMs: number;
  readonly minBytes: number;
  readonly maxBytes: number;
  readonly partitions: readonly (TopicPartition & { readonly offset: number; readonly maxBytes: number })[];
}

export interface FetchResult extends TopicPartition {
  readonly error: string;
  readonly logStartOffset: number;
  readonly records: FetchedRecords;
  /** Why the records cannot be read; then there are none. */
  readonly unreadable?: KafkaError;
}

export interface OffsetQuestion extends TopicPartition {
  readonly timestampMs: number;
}

export interface OffsetAnswer extends TopicPartition {
  readonly error: string;
  readonly offset: number;
}

export interface GroupMemberId {
  readonly group: string;
  readonly memberId: string;
  readonly generation: number;
  /** The name that its place is kept under while it is away; "" when it has none. */
  readonly instanceId: string;
}

export interface MemberBytes {
  readonly memberId: string;
  readonly bytes: Buffer;
}

export interface JoinRequest {
  readonly group: string;
  /** "" for a new member. */
  readonly memberId: string;
  /** As in GroupMemberId. A new member has the place of the one before it with this name, which is put out. */
  readonly instanceId: string;
  readonly sessionTimeoutMs: number;
  /** How long the others may take to join again. */
  readonly rebalanceTimeoutMs: number;
  readonly protocols: readonly { readonly name: string; readonly metadata: Buffer }[];
}

export interface JoinResult {
  readonly memberId: string;
  readonly generation: number;
  readonly leader: boolean;
  readonly protocol: string;
  /** For the leader: every member with its metadata. */
  readonly members: readonly (MemberBytes & { readonly instanceId: string })[];
}

export interface CommittedOffset extends TopicPartition {
  /** The next record to be read. */
  readonly offset: number;
  readonly metadata: string;
}
