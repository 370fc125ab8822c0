/**
 * Changes of the YAML while the sidecar runs: all of it is read and checked, as at the start, and put into force.
 * If there is any mistake in it everything stays as it was, which the log, a metric and metadata say.
 */
import { isDeepStrictEqual } from "node:util";
import type { SidecarConfiguration } from "../assembly.ts";
import { ConfigError, formatRemark } from "../config/remarks.ts";
import type { Settings } from "../config/settings.ts";
import { changesOf } from "../resources/changes.ts";
import type { ResourcesInForce } from "../resources/in-force.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { ReloadMetrics } from "./metrics.ts";
import { WatchedFiles } from "./watched-files.ts";

/** Where a configuration is from. */
export interface YamlSource {
  /** Files and folders. */
  readonly paths: readonly string[];
  /** How often it is looked whether they have changed, in milliseconds. Undefined: the default. */
  readonly lookMs?: number | undefined;
  /** Reads and checks all of it. Throws ConfigError. */
  load(): Promise<SidecarConfiguration>;
}

/** What became of the last change. */
export interface ReloadResult {
  /** Milliseconds since 1970. */
  readonly atMs: number;
  /** Why it is not in force, a line each; none: it is. */
  readonly mistakes: readonly string[];
  /** Where the mistakes are, without what is written there. */
  readonly places: readonly string[];
  /** Fields of a Configuration that have changed, and take effect at the next start. */
  readonly needRestart: readonly string[];
}

/** What reloading is made of. */
export interface ReloadOptions {
  /** Undefined: nothing can change. */
  readonly source: YamlSource | undefined;
  /** False: only `run` reloads. */
  readonly watch: boolean;
  readonly resources: ResourcesInForce;
  /** Has subscribers go on where they belong now. */
  readonly follow: () => Promise<unknown>;
  /** Called when a change is in force. */
  readonly applied: () => void;
  readonly telemetry: Telemetry;
}

/** Settings that are read at the start only; the others take effect at once. */
const readAtStart = [
  "tracing",
  "metrics",
  "logging",
  "api",
  "features",
] as const satisfies (keyof Settings)[];

/** See the head of this file. */
export class Reload {
  readonly #options: ReloadOptions;
  readonly #metrics: ReloadMetrics;
  readonly #stopping = new AbortController();
  readonly #atStart: Settings;
  #warnedOf: Settings;
  #watched: WatchedFiles | undefined;
  #running: Promise<void> = Promise.resolve();
  #waiting: Promise<void> | undefined;
  #last: ReloadResult | undefined;

  constructor(options: ReloadOptions) {
    this.#options = options;
    this.#metrics = new ReloadMetrics(options.telemetry.metrics);
    this.#atStart = options.resources.configuration.settings;
    this.#warnedOf = this.#atStart;
  }

  /** What became of the last change; undefined before the first. */
  get last(): ReloadResult | undefined {
    return this.#last;
  }

  /** Begins to watch the files, if that is wanted. */
  start(): void {
    const { source, telemetry, watch } = this.#options;
    if (!source || !watch || source.paths.length === 0) return;
    const log = telemetry.log;
    const changed = () => void this.run("files have changed");
    this.#watched = new WatchedFiles({ ...source, changed, log });
    // They were read after the process had begun.
    this.#watched
      .start(performance.timeOrigin)
      .catch((err: unknown) => log.warn({ err }, "the YAML files cannot be watched"));
  }

  /** Reads everything again. Resolves when it is in force, or refused; what is asked for meanwhile is done once more after it. */
  run(reason: string): Promise<void> {
    this.#waiting ??= this.#running.then(() => {
      this.#waiting = undefined;
      this.#running = this.#reload(reason);
      return this.#running;
    });
    return this.#waiting;
  }

  /** Nothing changes any more from when it resolves. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#watched?.close();
    await this.#waiting;
    await this.#running;
  }

  /** Never rejects. */
  async #reload(reason: string): Promise<void> {
    const { applied, follow, resources, source, telemetry } = this.#options;
    const { signal } = this.#stopping;
    if (!source || signal.aborted) return;
    let next: SidecarConfiguration;
    try {
      next = await source.load();
    } catch (error) {
      return this.#refuse(reason, error);
    }
    const before = resources.configuration;
    const changes = changesOf(before, next);
    await resources.apply(next, follow, signal);
    if (signal.aborted) return;
    applied();
    const needRestart = this.#needRestart(next.settings);
    this.#last = { atMs: Date.now(), mistakes: [], places: [], needRestart };
    this.#metrics.applied(this.#last.atMs);
    const known = new Set(before.notes.map(formatRemark));
    for (const note of next.notes.map(formatRemark)) if (!known.has(note)) telemetry.log.info(note);
    const any = Object.values(changes).some((names) => names.length > 0);
    const told = any
      ? "the YAML has changed, and is in force"
      : "the YAML was read again; the same is in force";
    telemetry.log.info({ reason, ...changes }, told);
  }

  #refuse(reason: string, error: unknown): void {
    const { log } = this.#options.telemetry;
    const remarks = error instanceof ConfigError ? error.mistakes : [];
    const mistakes = remarks.map(formatRemark);
    if (mistakes.length === 0) mistakes.push("the YAML cannot be read");
    const places = remarks.map((remark) => formatRemark({ ...remark, message: "" }).replace(/:? *$/, ""));
    const needRestart = this.#last?.needRestart ?? [];
    this.#last = { atMs: Date.now(), mistakes, places, needRestart };
    this.#metrics.refused();
    for (const mistake of mistakes) log.error(mistake);
    const fields = { reason, mistakes: mistakes.length, ...(remarks.length === 0 && { err: error }) };
    log.error(fields, "the YAML has changed and has mistakes; everything stays as it was");
  }

  /** What differs from the start, as fields of a Configuration's `spec`; said once for each change. */
  #needRestart(settings: Settings): readonly string[] {
    const differ = (one: Settings) =>
      readAtStart.filter((name) => !isDeepStrictEqual(settings[name], one[name]));
    const fields = differ(this.#atStart);
    if (fields.length > 0 && differ(this.#warnedOf).length > 0)
      this.#options.telemetry.log.warn(
        { fields },
        "the Configuration has changed; this takes effect at the next start",
      );
    this.#warnedOf = settings;
    return fields;
  }
}
