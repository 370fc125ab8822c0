/** How a connection says who it is. */

/** A mechanism and what it needs, in the form that Kafka libraries have for it. */
export type SaslSettings =
  | {
      readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
      readonly username: string;
      readonly password: string;
    }
  | { readonly mechanism: "oauthbearer"; readonly oauthBearerProvider: () => Promise<BearerToken> };

/** A token, and what is said beside it. */
export interface BearerToken {
  readonly value: string;
  readonly extensions?: Readonly<Record<string, string>>;
}
