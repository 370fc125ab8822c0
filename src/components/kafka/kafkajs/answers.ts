/** The answers of brokers as kafkajs decodes them. */

export interface MetadataAnswer {
  readonly brokers: readonly { readonly nodeId: number; readonly host: string; readonly port: number }[];
  readonly controllerId: number;
  readonly topicMetadata: readonly {
    readonly topicErrorCode: number;
    readonly topic: string;
    readonly isInternal: boolean;
    readonly partitionMetadata: readonly { readonly partitionId: number; readonly leader: number }[];
  }[];
}

export interface CreateTopicsAnswer {
  readonly topicErrors: readonly { readonly errorCode: number; readonly errorMessage?: string | null }[];
}

/** What is the same of all answers of a group's coordinator. */
export interface GroupAnswer {
  readonly errorCode: number;
}

export interface InitProducerAnswer extends GroupAnswer {
  readonly producerId: string;
  readonly producerEpoch: number;
}

export interface ProduceAnswer {
  readonly topics: readonly {
    readonly topicName: string;
    readonly partitions: readonly {
      readonly partition: number;
      readonly errorCode: number;
      readonly baseOffset: string;
    }[];
  }[];
}

export interface ListOffsetsAnswer {
  readonly responses: readonly {
    readonly topic: string;
    readonly partitions: readonly {
      readonly partition: number;
      readonly errorCode: number;
      readonly offset: string;
    }[];
  }[];
}

export interface CoordinatorAnswer extends GroupAnswer {
  readonly coordinator: { readonly nodeId: number; readonly host: string; readonly port: number };
}

export interface JoinAnswer extends GroupAnswer {
  readonly generationId: number;
  readonly groupProtocol: string;
  readonly leaderId: string;
  readonly memberId: string;
  readonly members: readonly {
    readonly memberId: string;
    /** Absent before version 5. */
    readonly groupInstanceId?: string | null;
    readonly memberMetadata: Buffer;
  }[];
}

export interface SyncAnswer extends GroupAnswer {
  readonly memberAssignment: Buffer | null;
}

export interface CommitAnswer {
  readonly responses: readonly {
    readonly topic: string;
    readonly partitions: readonly { readonly partition: number; readonly errorCode: number }[];
  }[];
}

export interface OffsetFetchAnswer extends GroupAnswer {
  readonly responses: readonly {
    readonly topic: string;
    readonly partitions: readonly {
      readonly partition: number;
      readonly offset: string;
      readonly metadata: string | null;
      readonly errorCode: number;
    }[];
  }[];
}

export interface DeleteGroupsAnswer {
  readonly results: readonly { readonly errorCode: number }[];
}
