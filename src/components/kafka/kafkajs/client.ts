/** A Kafka client on the protocol and the connections of kafkajs. */
import type {
  CommittedOffset,
  FetchRequest,
  FetchResult,
  GroupMemberId,
  JoinRequest,
  JoinResult,
  KafkaClient,
  MemberBytes,
  NewTopic,
  OffsetAnswer,
  OffsetQuestion,
  ProduceRequest,
  ProduceResult,
  ProducerIdentity,
  TopicMetadata,
  TopicPartition,
} from "../client.ts";
import type { Codecs } from "../compression/codecs.ts";
import { brokerError, hasCode, KafkaError } from "../errors.ts";
import type * as Answers from "./answers.ts";
import { partitionKey, readFetchAnswer } from "./fetch-answer.ts";
import type { Library, Protocol } from "./library.ts";
import { KafkajsNode, type NodeOptions } from "./nodes.ts";

/** Aborted transactions are never shown. */
const readCommitted = 1;
const groupCoordinator = 0;
const unknownMemberId = "MEMBER_ID_REQUIRED";
/** Answers of a node that does not, or not any more, look after the group. */
const coordinatorMoved = new Set(["NOT_COORDINATOR_FOR_GROUP", "GROUP_COORDINATOR_NOT_AVAILABLE"]);

/** What a client is made of. */
export interface KafkajsOptions extends NodeOptions {
  /** Where to begin, each as host:port. */
  readonly brokers: readonly { readonly host: string; readonly port: number }[];
  readonly codecs: Codecs;
}

/** See the head of this file. */
export class KafkajsClient implements KafkaClient {
  readonly #library: Library;
  readonly #options: KafkajsOptions;
  readonly #seeds: readonly KafkajsNode[];
  /** Every address that was ever told, and the one connection to it. */
  readonly #byAddress = new Map<string, KafkajsNode>();
  readonly #nodes = new Map<number, KafkajsNode>();
  readonly #coordinators = new Map<string, KafkajsNode>();
  #controllerId = -1;
  #closed = false;

  constructor(library: Library, options: KafkajsOptions) {
    this.#library = library;
    this.#options = options;
    this.#seeds = options.brokers.map(({ host, port }) => this.#at(host, port));
  }

  async metadata(topics: readonly string[] | "all", create: boolean): Promise<readonly TopicMetadata[]> {
    // The protocol's empty list means none, kafkajs's means all.
    const args = [{ topics: topics === "all" ? [] : topics, allowAutoTopicCreation: create }];
    const change = topics === "all" || topics.length > 0 ? undefined : this.#noTopics();
    const answer = (await this.#anyNode("Metadata", args, change)) as Answers.MetadataAnswer;
    this.#controllerId = answer.controllerId;
    for (const { nodeId, host, port } of answer.brokers) this.#learn(nodeId, host, port);
    return answer.topicMetadata.map(({ topic, topicErrorCode, isInternal, partitionMetadata }) => {
      const leaders: number[] = [];
      for (const { partitionId, leader } of partitionMetadata) leaders[partitionId] = leader;
      return { topic, error: this.#code(topicErrorCode), internal: isInternal, leaders };
    });
  }

  async createTopic(topic: NewTopic, timeoutMs: number): Promise<void> {
    const controller = this.#nodes.get(this.#controllerId);
    const request = {
      topic: topic.topic,
      numPartitions: topic.partitions,
      replicationFactor: topic.replicationFactor,
      configEntries: Object.entries(topic.configs).map(([name, value]) => ({ name, value })),
    };
    const args = [{ topics: [request], validateOnly: false, timeout: timeoutMs }];
    const answer = (await (controller
      ? controller.send("CreateTopics", args)
      : this.#anyNode("CreateTopics", args))) as Answers.CreateTopicsAnswer;
    for (const { errorCode, errorMessage } of answer.topicErrors) this.#check(errorCode, errorMessage);
  }

  async initProducerId(): Promise<ProducerIdentity> {
    const args = [{ transactionalId: null, transactionTimeout: 60_000 }];
    const answer = (await this.#anyNode("InitProducerId", args)) as Answers.InitProducerAnswer;
    this.#check(answer.errorCode);
    return { id: BigInt(answer.producerId), epoch: answer.producerEpoch };
  }

  async produce(nodeId: number, request: ProduceRequest): Promise<readonly ProduceResult[]> {
    const { acks, batches, timeoutMs } = request;
    const args = [{ acks, timeout: timeoutMs, topicData: [] }];
    const answer = (await this.#ask(nodeId, "Produce", args, (protocol) => ({
      ...protocol,
      request: { ...protocol.request, encode: async () => this.#encodeProduce(request) },
    }))) as Answers.ProduceAnswer | undefined;
    if (answer === undefined)
      return batches.map(({ topic, partition }) => ({ topic, partition, error: "", baseOffset: -1 }));
    const results = new Map<string, ProduceResult>();
    for (const { topicName: topic, partitions } of answer.topics) {
      for (const { partition, errorCode, baseOffset } of partitions) {
        const result = { topic, partition, error: this.#code(errorCode), baseOffset: Number(baseOffset) };
        results.set(partitionKey(topic, partition), result);
      }
    }
    return batches.map(({ topic, partition }) => {
      const missing = { topic, partition, error: "UNKNOWN", baseOffset: -1 };
      return results.get(partitionKey(topic, partition)) ?? missing;
    });
  }

  async fetch(nodeId: number, request: FetchRequest): Promise<readonly FetchResult[]> {
    const { maxWaitMs, minBytes, maxBytes, partitions } = request;
    const from = new Map<string, number>();
    for (const { topic, partition, offset } of partitions) from.set(partitionKey(topic, partition), offset);
    const topics = byTopic(partitions, ({ partition, offset, maxBytes: most }) => ({
      partition,
      fetchOffset: String(offset),
      maxBytes: most,
    }));
    const { codecs } = this.#options;
    const args = [
      { isolationLevel: readCommitted, maxWaitTime: maxWaitMs, minBytes, maxBytes, topics, rackId: "" },
    ];
    return (await this.#ask(nodeId, "Fetch", args, (protocol) => {
      const { apiVersion } = protocol.request;
      const decode = async (payload: Buffer): Promise<unknown> => {
        const results = await readFetchAnswer(payload, apiVersion, from, codecs, this.#library.errorOf);
        return Object.assign([...results], { clientSideThrottleTime: 0 });
      };
      return { ...protocol, response: { ...protocol.response, decode } };
    })) as readonly FetchResult[];
  }

  async listOffsets(nodeId: number, questions: readonly OffsetQuestion[]): Promise<readonly OffsetAnswer[]> {
    const topics = byTopic(questions, ({ partition, timestampMs }) => ({
      partition,
      timestamp: String(timestampMs),
    }));
    const args = [{ isolationLevel: readCommitted, topics }];
    const answer = (await this.#ask(nodeId, "ListOffsets", args)) as Answers.ListOffsetsAnswer;
    return answer.responses.flatMap(({ topic, partitions }) =>
      partitions.map(({ partition, errorCode, offset }) => ({
        topic,
        partition,
        error: this.#code(errorCode),
        offset: Number(offset),
      })),
    );
  }

  async joinGroup(request: JoinRequest, named: (memberId: string) => void): Promise<JoinResult> {
    const join = async (memberId: string): Promise<Answers.JoinAnswer> => {
      const args = {
        groupId: request.group,
        memberId,
        groupInstanceId: instanceOf(request),
        sessionTimeout: request.sessionTimeoutMs,
        rebalanceTimeout: request.rebalanceTimeoutMs,
        protocolType: "consumer",
        groupProtocols: request.protocols,
      };
      return (await this.#coordinator(request.group, "JoinGroup", [args])) as Answers.JoinAnswer;
    };
    let answer = await join(request.memberId);
    if (this.#code(answer.errorCode) === unknownMemberId) {
      named(answer.memberId);
      answer = await join(answer.memberId);
    }
    this.#checkGroup(request.group, answer.errorCode);
    return {
      memberId: answer.memberId,
      generation: answer.generationId,
      leader: answer.leaderId === answer.memberId,
      protocol: answer.groupProtocol,
      members: answer.members.map(({ memberId, groupInstanceId, memberMetadata }) => ({
        memberId,
        instanceId: groupInstanceId ?? "",
        bytes: memberMetadata,
      })),
    };
  }

  async syncGroup(
    request: GroupMemberId & { readonly assignments: readonly MemberBytes[] },
  ): Promise<Buffer> {
    const args = {
      groupId: request.group,
      generationId: request.generation,
      memberId: request.memberId,
      groupInstanceId: instanceOf(request),
      groupAssignment: request.assignments.map(({ memberId, bytes }) => ({
        memberId,
        memberAssignment: bytes,
      })),
    };
    const answer = (await this.#coordinator(request.group, "SyncGroup", [args])) as Answers.SyncAnswer;
    this.#checkGroup(request.group, answer.errorCode);
    return answer.memberAssignment ?? Buffer.alloc(0);
  }

  async heartbeat(member: GroupMemberId, withinMs: number): Promise<void> {
    const { group, memberId, generation } = member;
    const groupInstanceId = instanceOf(member);
    const args = { groupId: group, groupGenerationId: generation, memberId, groupInstanceId };
    const answer = (await this.#coordinator(group, "Heartbeat", [args], withinMs)) as Answers.GroupAnswer;
    this.#checkGroup(group, answer.errorCode);
  }

  async leaveGroup(member: GroupMemberId): Promise<void> {
    const { group, memberId } = member;
    const args = { groupId: group, memberId, groupInstanceId: instanceOf(member) };
    const answer = (await this.#coordinator(group, "LeaveGroup", [args])) as Answers.GroupAnswer;
    this.#checkGroup(group, answer.errorCode);
  }

  async commitOffsets(
    member: GroupMemberId,
    offsets: readonly CommittedOffset[],
  ): Promise<readonly string[]> {
    const { group, generation, memberId } = member;
    const topics = byTopic(offsets, ({ partition, offset, metadata }) => ({
      partition,
      offset: String(offset),
      metadata,
    }));
    // kafkajs has no version with an instance id: who was put out of its place is an unknown member here.
    const args = { groupId: group, groupGenerationId: generation, memberId, retentionTime: "-1", topics };
    const answer = (await this.#coordinator(group, "OffsetCommit", [args])) as Answers.CommitAnswer;
    const errors = new Map<string, string>();
    for (const { topic, partitions } of answer.responses) {
      for (const { partition, errorCode } of partitions) {
        errors.set(partitionKey(topic, partition), this.#code(errorCode));
        if (coordinatorMoved.has(this.#code(errorCode))) this.#coordinators.delete(group);
      }
    }
    return offsets.map(({ topic, partition }) => errors.get(partitionKey(topic, partition)) ?? "UNKNOWN");
  }

  async fetchOffsets(
    group: string,
    partitions: readonly TopicPartition[],
  ): Promise<readonly CommittedOffset[]> {
    if (partitions.length === 0) return [];
    const topics = byTopic(partitions, ({ partition }) => ({ partition }));
    const answer = (await this.#coordinator(group, "OffsetFetch", [
      { groupId: group, topics },
    ])) as Answers.OffsetFetchAnswer;
    this.#checkGroup(group, answer.errorCode);
    const committed: CommittedOffset[] = [];
    for (const { topic, partitions: answers } of answer.responses) {
      for (const { partition, offset, metadata, errorCode } of answers) {
        this.#checkGroup(group, errorCode);
        if (Number(offset) >= 0)
          committed.push({ topic, partition, offset: Number(offset), metadata: metadata ?? "" });
      }
    }
    return committed;
  }

  async deleteGroup(group: string): Promise<void> {
    const answer = (await this.#coordinator(group, "DeleteGroups", [[group]])) as Answers.DeleteGroupsAnswer;
    for (const { errorCode } of answer.results) this.#checkGroup(group, errorCode);
  }

  close(): void {
    this.#closed = true;
    const why = new KafkaError("unavailable", "the connections to Kafka are closed");
    for (const node of this.#byAddress.values()) node.close(why);
  }

  #encodeProduce({ acks, timeoutMs, batches }: ProduceRequest): unknown {
    const encoder = new this.#library.Encoder();
    encoder.writeString(null).writeInt16(acks).writeInt32(timeoutMs);
    const topics = Map.groupBy(batches, ({ topic }) => topic);
    encoder.writeInt32(topics.size);
    for (const [topic, own] of topics) {
      encoder.writeString(topic).writeInt32(own.length);
      for (const { partition, batch } of own) {
        encoder.writeInt32(partition).writeInt32(batch.bytes.length).writeBuffer(batch.bytes);
      }
    }
    return encoder;
  }

  #noTopics(): (protocol: Protocol) => Protocol {
    return (protocol) => {
      const encode = async () => new this.#library.Encoder().writeInt32(0).writeInt8(0);
      return { ...protocol, request: { ...protocol.request, encode } };
    };
  }

  #learn(nodeId: number, host: string, port: number): KafkajsNode {
    const node = this.#at(host, port);
    const known = this.#nodes.get(nodeId);
    if (known && known !== node) known.reset(new KafkaError("unavailable", `node ${nodeId} has moved`));
    this.#nodes.set(nodeId, node);
    return node;
  }

  #at(host: string, port: number): KafkajsNode {
    const address = `${host}:${port}`;
    let node = this.#byAddress.get(address);
    if (node === undefined) {
      node = new KafkajsNode(host, port, this.#library, this.#options);
      this.#byAddress.set(address, node);
      if (this.#closed) node.close(new KafkaError("unavailable", "the connections to Kafka are closed"));
    }
    return node;
  }

  /** Asks one node. Its address is looked for when it is not known, or did not lead anywhere the last time. */
  async #ask(
    nodeId: number,
    api: string,
    args: readonly unknown[],
    change?: (protocol: Protocol) => Protocol,
  ): Promise<unknown> {
    if (!this.#nodes.has(nodeId)) await this.metadata([], false);
    const node = this.#nodes.get(nodeId);
    if (node === undefined) throw new KafkaError("unavailable", `Kafka's node ${nodeId} is not known`);
    try {
      return await node.send(api, args, change);
    } catch (error) {
      if (error instanceof KafkaError && error.code === "") this.#nodes.delete(nodeId);
      throw error;
    }
  }

  /** Asks one after the other until one answers. */
  async #anyNode(
    api: string,
    args: readonly unknown[],
    change?: (protocol: Protocol) => Protocol,
    withinMs?: number,
  ): Promise<unknown> {
    let failure: unknown;
    for (const node of new Set([...this.#nodes.values(), ...this.#seeds])) {
      if (this.#closed) break;
      try {
        return await node.send(api, args, change, withinMs);
      } catch (error) {
        // What another node refuses, this one would too.
        if (error instanceof KafkaError && error.kind === "refused") throw error;
        failure = error;
      }
    }
    throw failure ?? new KafkaError("unavailable", "the connections to Kafka are closed");
  }

  /** Asks the coordinator of a group, which is looked for when it is not known. */
  async #coordinator(
    group: string,
    api: string,
    args: readonly unknown[],
    withinMs?: number,
  ): Promise<unknown> {
    const node = this.#coordinators.get(group) ?? (await this.#findCoordinator(group, withinMs));
    try {
      return await node.send(api, args, undefined, withinMs);
    } catch (error) {
      this.#coordinators.delete(group);
      throw error;
    }
  }

  async #findCoordinator(group: string, withinMs: number | undefined): Promise<KafkajsNode> {
    const args = [{ groupId: group, coordinatorType: groupCoordinator }];
    const answer = (await this.#anyNode(
      "GroupCoordinator",
      args,
      undefined,
      withinMs,
    )) as Answers.CoordinatorAnswer;
    this.#check(answer.errorCode);
    const { nodeId, host, port } = answer.coordinator;
    const node = this.#learn(nodeId, host, port);
    this.#coordinators.set(group, node);
    return node;
  }

  #code(errorCode: number): string {
    return errorCode === 0 ? "" : this.#library.errorOf(errorCode).type;
  }

  #check(errorCode: number, detail?: string | null): void {
    if (errorCode === 0) return;
    const { type, message } = this.#library.errorOf(errorCode);
    throw brokerError(type, detail || message);
  }

  #checkGroup(group: string, errorCode: number): void {
    try {
      this.#check(errorCode);
    } catch (error) {
      if (hasCode(error, ...coordinatorMoved)) this.#coordinators.delete(group);
      throw error;
    }
  }
}

function instanceOf({ instanceId }: { readonly instanceId: string }): string | null {
  return instanceId === "" ? null : instanceId;
}

function byTopic<Item extends TopicPartition, Entry>(
  items: readonly Item[],
  entry: (item: Item) => Entry,
): { topic: string; partitions: Entry[] }[] {
  const topics = Map.groupBy(items, ({ topic }) => topic);
  return [...topics].map(([topic, own]) => ({ topic, partitions: own.map(entry) }));
}
