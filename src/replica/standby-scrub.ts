import { setImmediate as nextTurn } from "node:timers/promises";

import type { Logger } from "pino";

import type { ScrubConfig } from "../config/config.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { Clock } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import { pageList } from "../sqlite/page-comparison.ts";
import { findPages } from "./find-pages.ts";
import { CHECK_SLICE_BYTES, PageCheck, pagesAreRight, readPage } from "./page-check.ts";
import type { LookBack } from "./look-back.ts";
import type { ReplicaProgress } from "./replica-progress.ts";
import { PageSpool } from "./sqlite/page-spool.ts";
import type { StandbyDatabase } from "./standby-database.ts";
import { diverged, requireGoingOn } from "./standby-errors.ts";
import type { StandbyPaths } from "./standby-paths.ts";

/** Between two looks whether a scrub is due: there may be a thousand databases. */
const LOOK_MS = 1000;

export interface StandbyScrubOptions {
  readonly config: ScrubConfig;
  readonly log: ChangeLog;
  readonly lookBack: LookBack;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly paths: StandbyPaths;
  readonly progress: ReplicaProgress;
  readonly signal: AbortSignal;
}

/**
 * Reads every page of every standby database and compares it with the index: once after each start, as fast as apply
 * lets it, then every `scrub`, at its rate. What is wrong is put right from the log, before anything more is applied.
 */
export class StandbyScrub {
  readonly #options: StandbyScrubOptions;
  #pass: { readonly database: StandbyDatabase; readonly check: PageCheck } | undefined;
  /** Of the next slice, or the next look whether one is due; monotonic. */
  #nextMs = 0;

  constructor(options: StandbyScrubOptions) {
    this.#options = options;
  }

  /** Until there may be something to do for `step`. */
  get waitMs(): number {
    return Math.max(0, this.#nextMs - this.#options.clock.monotonic());
  }

  /** How far the pass over this database is; undefined when none is under way. */
  runningOf(database: StandbyDatabase): { done: number; total: number } | undefined {
    const { index } = database;
    return this.#pass?.database === database && index ? this.#pass.check.progress(index) : undefined;
  }

  /**
   * One slice, when it is time. Call it while every index says what was appended last; nothing may be applied before it
   * resolves. @throws STANDBY_DIVERGED (what differs cannot be repaired), STANDBY_WRITTEN, what the log throws
   */
  async step(databases: readonly StandbyDatabase[]): Promise<void> {
    const { clock, config, progress } = this.#options;
    const nowMs = clock.monotonic();
    if (nowMs < this.#nextMs) return;
    const pass = this.#currentPass(databases);
    const index = pass?.database.index;
    if (!pass || !index) {
      const dueInMs = Math.min(...databases.map((database) => this.#dueInMs(database)));
      this.#nextMs = nowMs + Math.min(LOOK_MS, dueInMs);
      return;
    }
    const { check, database } = pass;
    this.#nextMs = nowMs + (database.checked ? (CHECK_SLICE_BYTES * 1000) / config.bytesPerSecond : 0);
    const more = check.slice(index);
    if (check.found && !(await this.#heal(database, check, more))) return;
    if (more && !check.found) return;
    database.markChecked({ atMs: clock.now(), pages: check.pages, differing: check.wrong.length });
    this.#pass = undefined;
    progress.diverged = false;
  }

  #currentPass(databases: readonly StandbyDatabase[]): { database: StandbyDatabase; check: PageCheck } | undefined {
    // A new file (another page size) is looked at from its beginning.
    if (this.#pass && this.#pass.database.writer !== this.#pass.check.writer) this.#pass = undefined;
    const database = this.#pass?.database ?? this.#due(databases);
    if (!this.#pass && database?.writer) this.#pass = { database, check: new PageCheck(database.writer) };
    return this.#pass;
  }

  #due(databases: readonly StandbyDatabase[]): StandbyDatabase | undefined {
    return databases.find((database) => this.#dueInMs(database) <= 0);
  }

  /** Until the next pass over this database; Infinity when there will be none. */
  #dueInMs({ writer, index, lastCheck }: StandbyDatabase): number {
    const { clock, config } = this.#options;
    if (!writer || !index) return Infinity;
    if (!lastCheck) return 0;
    const sinceMs = clock.now() - lastCheck.atMs;
    // A clock that was put back must not put the scrub off.
    return config.everyMs === undefined ? Infinity : sinceMs < 0 ? 0 : config.everyMs - sinceMs;
  }

  /** Learns all that is wrong, puts it right and proves it. False when stopped meanwhile. */
  async #heal(database: StandbyDatabase, check: PageCheck, more: boolean): Promise<boolean> {
    const { logger, progress, signal } = this.#options;
    const { index, writer, path, name } = database;
    invariant(index && writer, "a database that is checked has an index and a file");
    progress.diverged = true;
    for (let goOn = more; goOn; goOn = check.slice(index)) {
      await nextTurn();
      if (signal.aborted) return false;
    }
    const what = evidenceOf(check, index.sizePages);
    logger.warn(
      { database: name, pages: check.wrong.slice(0, 1000) },
      `${path}: ${what}; it is read from the log again`,
    );
    if (check.hopeless) throw diverged(path, what);
    await this.#rewrite(database, check, what);
    if (!pagesAreRight(writer, index, check.wrong)) throw diverged(path, `${what}, and still is after a repair`);
    progress.repaired(name);
    logger.warn({ database: name, pages: check.wrong.length }, `${path}: repaired from the log, ${what}`);
    return true;
  }

  /** Appends the images that log and repositories hold as one commit: readers stay, and see the right pages from it on. */
  async #rewrite(database: StandbyDatabase, check: PageCheck, what: string): Promise<void> {
    const { paths } = this.#options;
    const { index, writer } = database;
    invariant(index && writer, "a database that is checked has an index and a file");
    const spool = new PageSpool(index.pageSize, paths.spool);
    try {
      const missing = await this.#find(database, check, { spool, what });
      if (missing.length > 0)
        throw diverged(
          database.path,
          `${what}, and neither the log nor a repository holds an image of ${pageList(missing)}`,
        );
      // Only the size is wrong: SQLite needs a frame to carry it.
      if (spool.size === 0) spool.put(1, readPage(writer, 1));
      await writer.append(spool, index.sizePages);
      crashPoint("standby: pages rewritten");
      await writer.sync();
    } finally {
      spool.close();
    }
  }

  /** Pages that the log does not hold. @throws STANDBY_DIVERGED when it cannot be read, and a retry cannot help */
  async #find(
    database: StandbyDatabase,
    check: PageCheck,
    { spool, what }: { spool: PageSpool; what: string },
  ): Promise<number[]> {
    const { signal } = this.#options;
    const { index, name, offset, path } = database;
    invariant(index, "a database that is checked has an index");
    try {
      return await findPages(
        this.#options,
        { database: name, pageNumbers: check.wrong, index, through: offset, signal },
        spool,
      );
    } catch (error) {
      requireGoingOn(signal);
      if (!(error instanceof TidemarkError) || error.retryable) throw error;
      throw diverged(path, `${what}, and the log cannot give it back: ${error.message}`);
    }
  }
}

function evidenceOf(check: PageCheck, sizePages: number): string {
  const size =
    check.wrongSizePages === undefined ? [] : [`it has ${check.wrongSizePages} pages, the log says ${sizePages}`];
  const are = check.wrong.length === 1 ? "is" : "are";
  const pages = check.wrong.length === 0 ? [] : [`${pageList(check.wrong)} ${are} not what the log says`];
  return [...size, ...pages].join("; ");
}
