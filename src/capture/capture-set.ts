import fs from "node:fs";

import type { Logger } from "pino";

import type { Config, DatabaseConfig, DatabasePattern } from "../config/config.ts";
import { DatabaseNames, matchesPattern } from "../config/database-patterns.ts";
import { namesCollide } from "../config/tree-list.ts";
import { aborted, type Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { DatabaseFinder } from "./database-finder.ts";
import type { DatabaseCapture } from "./sqlite/database-capture.ts";

export interface CaptureSetOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Name and path of what this agent's state has captured. */
  readonly captured: ReadonlyMap<string, string>;
  /** A database joins the set: everything it needs to be captured. */
  readonly makeCapture: (database: DatabaseConfig) => DatabaseCapture;
  /** The capture of a database failed for good. */
  readonly onFailure: (error: unknown) => void;
  readonly stop: AbortSignal;
}

/**
 * Which databases there are: those listed, those that patterns find as they appear, and those that they found once:
 * a name, once taken, stays with its path, because its history in the log does.
 */
export class CaptureSet {
  readonly #options: CaptureSetOptions;
  readonly #names: DatabaseNames;
  readonly #captures: DatabaseCapture[] = [];
  readonly #finder: DatabaseFinder;
  readonly #running = new Set<Promise<void>>();
  /** Files that cannot join, and patterns that match nothing: what was said about them. */
  readonly #warnings = new Map<string, string>();
  #began = false;

  constructor(options: CaptureSetOptions) {
    const { config, clock } = options;
    this.#options = options;
    const own = [config.state, ...(config.standby === undefined ? [] : [config.standby])];
    this.#names = new DatabaseNames({ own, trees: config.trees });
    const onScan = (pattern: DatabasePattern, files: readonly string[]): void => this.#onScan(pattern, files);
    this.#finder = new DatabaseFinder({ patterns: config.patterns, clock, onScan });
  }

  /** The databases that there are at the start. @throws STATE_FOREIGN */
  static membersAtStart(options: Pick<CaptureSetOptions, "config" | "captured">): DatabaseConfig[] {
    const { config, captured } = options;
    const listed = config.databases.filter(({ byPattern }) => !byPattern);
    for (const database of listed) requireSameDatabase(database, captured.get(database.name), config.state);
    const taken = [...listed, ...config.trees];
    const found = [...captured].filter(
      ([name, file]) =>
        !taken.some((other) => namesCollide(other.name, name)) &&
        config.patterns.some((pattern) => matchesPattern(pattern, file)),
    );
    return [...listed, ...found.map(([name, path]) => ({ name, path, byPattern: true as const }))];
  }

  get captures(): readonly DatabaseCapture[] {
    return this.#captures;
  }

  get warnings(): readonly string[] {
    return [...this.#warnings.values()];
  }

  /** Resolves when the log holds every database of the start, or it must be waited for. */
  get ready(): Promise<unknown> {
    return Promise.all(this.#captures.map(async ({ ready }) => ready.promise));
  }

  /** Makes the captures of the start; nothing runs yet. */
  prepare(members: readonly DatabaseConfig[]): void {
    for (const member of members) this.#add(member);
    this.#finder.scan();
  }

  /** Captures all, and what appears meanwhile. Resolves after a stop, when all have ended. */
  async run(): Promise<void> {
    const { stop } = this.#options;
    this.#began = true;
    // One listener for all: a signal looks through those it has whenever one is added.
    stop.addEventListener("abort", () => this.#captures.forEach((capture) => capture.wake()), { once: true });
    for (const capture of this.#captures) this.#start(capture);
    await this.#finder.run(stop);
    // Without a database and without a pattern there is nothing else that would wait for it.
    await aborted(stop);
    await Promise.all(this.#running);
  }

  #add(database: DatabaseConfig): void {
    this.#names.add(database);
    const capture = this.#options.makeCapture(database);
    this.#captures.push(capture);
    if (this.#began) this.#start(capture);
  }

  #start(capture: DatabaseCapture): void {
    const running: Promise<void> = capture
      .run()
      .catch(this.#options.onFailure)
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  #onScan(pattern: DatabasePattern, files: readonly string[]): void {
    const { logger } = this.#options;
    for (const file of this.#warnings.keys()) {
      if (file !== pattern.where && matchesPattern(pattern, file) && !files.includes(file)) this.#warnings.delete(file);
    }
    this.#warnIfEmpty(pattern, files);
    for (const file of files) {
      const admitted = this.#names.admit(pattern, file);
      if (!admitted) continue;
      const refusal = "refusal" in admitted ? admitted.refusal : this.#reserved(admitted.database);
      if (refusal !== undefined) this.#warn(file, refusal);
      else if ("database" in admitted) {
        logger.info({ database: admitted.database.name, path: file }, "found a database");
        this.#add(admitted.database);
      }
    }
  }

  /** A name that the state knows for another file, outside the patterns, which is still there. */
  #reserved({ name, path }: DatabaseConfig): string | undefined {
    const owner = this.#options.captured.get(name);
    if (owner === undefined || owner === path || !fs.existsSync(owner)) return undefined;
    return `${path} is not captured: the name ${JSON.stringify(name)} belongs to ${owner} in the state of this agent`;
  }

  #warnIfEmpty({ where, pattern }: DatabasePattern, files: readonly string[]): void {
    if (files.length > 0) this.#warnings.delete(where);
    else this.#warn(where, `nothing matches ${pattern} (${where}) yet`);
  }

  /** Once. */
  #warn(about: string, message: string): void {
    if (this.#warnings.get(about) === message) return;
    this.#warnings.set(about, message);
    this.#options.logger.warn(message);
  }
}

/** A state directory that belongs to another database of the same name would ship one app over another's history. */
function requireSameDatabase({ name, path }: DatabaseConfig, stored: string | undefined, directory: string): void {
  if (stored === undefined || stored === path || !fs.existsSync(stored)) return;
  throw new TidemarkError(
    "STATE_FOREIGN",
    `${directory} holds the state of ${stored} under the name ${name}, not of ${path}`,
    { hint: "Give this database another name (--db PATH=NAME), or its set a state directory of its own (--state)." },
  );
}
