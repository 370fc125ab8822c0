/** Tokens of an identity provider for SASL OAUTHBEARER: OAuth 2.0 client credentials. */
import { KafkaError } from "./errors.ts";
import type { BearerToken } from "./sasl.ts";

/** Where tokens come from. */
export interface OidcSettings {
  readonly tokenEndpoint: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** With commas or spaces between. */
  readonly scopes: string;
  readonly audience: string;
  readonly resource: string;
  readonly extensions: Readonly<Record<string, string>>;
}

/**
 * A token is renewed when this part of its life is over: connections that authenticate again, some seconds before the one
 * that they have ends, would gain nothing by the same one.
 */
const renewAfter = 0.5;
/** The life of a token that does not say. */
const defaultLifeMs = 60_000;
const requestTimeoutMs = 10_000;

/** See the head of this file. A token is asked for once and used until its life is nearly over. */
export class OidcTokens {
  readonly #settings: OidcSettings;
  #token: { readonly value: string; readonly renewAtMs: number } | undefined;
  #asking: Promise<string> | undefined;

  constructor(settings: OidcSettings) {
    this.#settings = settings;
  }

  /** A token that is good for a while. Throws a KafkaError, without secrets in it. */
  async token(): Promise<BearerToken> {
    const { extensions } = this.#settings;
    const known = this.#token;
    if (known && Date.now() < known.renewAtMs) return { value: known.value, extensions };
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return { value: await this.#asking, extensions };
  }

  async #ask(): Promise<string> {
    const { tokenEndpoint, clientId, clientSecret, scopes, audience, resource } = this.#settings;
    const form = new URLSearchParams({
      grant_type: "client_credentials",
      client_id: clientId,
      client_secret: clientSecret,
    });
    form.set("scope", scopes.split(/[\s,]+/).join(" "));
    if (audience !== "") form.set("audience", audience);
    if (resource !== "") form.set("resource", resource);
    let response: Response;
    try {
      const signal = AbortSignal.timeout(requestTimeoutMs);
      response = await fetch(tokenEndpoint, { method: "POST", body: form, signal });
    } catch (error) {
      throw new KafkaError(
        "unavailable",
        "the token endpoint (oidcTokenEndpoint) cannot be reached",
        "",
        error,
      );
    }
    const answer = (await response.json().catch(() => ({}))) as {
      access_token?: unknown;
      expires_in?: unknown;
    };
    if (!response.ok || typeof answer.access_token !== "string") {
      const kind = response.status >= 500 ? "unavailable" : "refused";
      throw new KafkaError(
        kind,
        `the token endpoint (oidcTokenEndpoint) gave no token: status ${response.status}`,
      );
    }
    const lifeMs = Number(answer.expires_in) > 0 ? Number(answer.expires_in) * 1000 : defaultLifeMs;
    this.#token = { value: answer.access_token, renewAtMs: Date.now() + lifeMs * renewAfter };
    return answer.access_token;
  }
}
