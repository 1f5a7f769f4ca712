import { sleep } from "../../runtime/clock.ts";
import { hasCode } from "../../runtime/errors.ts";
import { giveBack } from "../../runtime/give-back.ts";
import { readCommittedPages, type FrameRange, type PageRange } from "../../sqlite/committed-pages.ts";
import { differingPages, pageList, type ScrubStatus } from "../../sqlite/page-comparison.ts";
import type { DatabaseParts } from "./database-parts.ts";
import type { Difference } from "./difference.ts";
import type { Follower } from "./follower.ts";
import type { ScrubTurn } from "./scrub-turn.ts";
import type { SourceDatabase } from "./source-database.ts";

const SLICE_BYTES = 256 * 1024;
/** A page that differs is looked at so often, this far apart, each time after everything committed was captured. */
const PROOFS = 3;
const PROOF_PAUSE_MS = 20;
/** What differs is held in memory and shipped as one event up to this size; more of it is compared and shipped anew. */
const MAX_REPAIR_BYTES = 16 * 1024 * 1024;

/** How the last scrub of a database ended, as the agent's state remembers it. */
export interface ScrubRecord {
  /** End of the last scrub; before the first one, since when the database is known. ms since 1970. */
  readonly atMs: number;
  /** Undefined before the first. */
  readonly result: { readonly pages: number; readonly differing: number } | undefined;
}

export interface ScrubOptions {
  readonly turn: ScrubTurn;
  readonly record: ScrubRecord | undefined;
  readonly save: (record: ScrubRecord) => void;
}

interface Run {
  nextPage: number;
  readonly differing: number[];
}

interface Session {
  readonly follower: Follower;
  readonly source: SourceDatabase;
}

/**
 * Now and then reads the whole database file again, slice by slice between the looks of the follower, and compares it
 * with the page index, that is with what the log holds: what was missed, or rotted in a page that nobody touches, is
 * found that way. Nothing is held back meanwhile.
 *
 * Why a slice is exact although commits go on: the index holds everything up to the shipper's position. While the pin is
 * there nobody may write later frames to the file or overwrite those up to the position. So the last frame up to
 * there, or else the file, is what the index must say. Where that may not hold (the pin was let go for a moment) a page
 * merely becomes a suspect, and is proved under a new pin, with everything captured.
 */
export class Scrub {
  readonly #parts: DatabaseParts;
  readonly #difference: Difference;
  readonly #options: ScrubOptions;
  #record: ScrubRecord;
  #run: Run | undefined;
  #nextSliceMs = 0;

  constructor(parts: DatabaseParts, difference: Difference, options: ScrubOptions) {
    this.#parts = parts;
    this.#difference = difference;
    this.#options = options;
    this.#record = options.record ?? { atMs: parts.options.clock.now(), result: undefined };
    if (!options.record) options.save(this.#record);
  }

  /** Until the next slice; Infinity when none is under way. */
  get waitMs(): number {
    return this.#run ? Math.max(0, this.#nextSliceMs - this.#parts.options.clock.monotonic()) : Infinity;
  }

  get isRunning(): boolean {
    return this.#run !== undefined;
  }

  /** Whether one is to begin now; then it is this database's turn, until `abandon` or its end. */
  isDue(): boolean {
    const { clock, config } = this.#parts.options;
    const { everyMs } = config.scrub;
    const sinceMs = clock.now() - this.#record.atMs;
    // A clock that was put back must not put the scrub off.
    return everyMs !== undefined && (sinceMs >= everyMs || sinceMs < 0) && this.#options.turn.take(this);
  }

  /** All pages were compared for another reason, and the difference was shipped. */
  wasCompared(): void {
    this.#ended(0);
  }

  status(): ScrubStatus {
    const { atMs, result } = this.#record;
    const total = this.#parts.shipper.index.sizePages;
    return {
      at: result && new Date(atMs).toISOString(),
      pages: result?.pages ?? 0,
      differing: result?.differing ?? 0,
      running: this.#run && { done: Math.min(this.#run.nextPage - 1, total), total },
    };
  }

  /** One slice, when it is time. Between two looks of the follower. @throws what Difference.ship throws */
  async step(session: Session): Promise<void> {
    const { clock, config } = this.#parts.options;
    if (!this.#run && this.isDue()) this.#run = { nextPage: 1, differing: [] };
    const run = this.#run;
    if (!run || !this.#options.turn.take(this) || clock.monotonic() < this.#nextSliceMs) return;
    this.#nextSliceMs = clock.monotonic() + (SLICE_BYTES * 1000) / config.scrub.bytesPerSecond;
    try {
      if (run.nextPage <= this.#parts.shipper.index.sizePages) await this.#compareSlice(run, session);
      else await this.#finish(run, session);
    } catch (error) {
      // The follower finds the same at its next look, and repairs it; then the slice is looked at again.
      if (!hasCode(error, "WAL_GAP", "DATABASE_BUSY")) throw error;
    }
  }

  /** The files are closed: the next session begins again. */
  abandon(): void {
    this.#run = undefined;
    this.#options.turn.giveBack(this);
  }

  async #compareSlice(run: Run, session: Session): Promise<void> {
    const { index } = this.#parts.shipper;
    const { pageSize, sizePages } = index;
    const firstPage = run.nextPage;
    const count = Math.min(Math.max(1, Math.floor(SLICE_BYTES / pageSize)), sizePages - firstPage + 1);
    const range = { firstPage, count, pageSize };
    const frames = this.#framesUpToPosition(session.source);
    if (!frames) return;
    const bytes = readCommittedPages(session.source.files, frames, range);
    const suspects = differingPages(index, bytes, range);
    giveBack(bytes.buffer);
    const differing = suspects.length > 0 ? await this.#prove(suspects, session) : [];
    run.nextPage = firstPage + count;
    if (differing.length === 0) return;
    run.differing.push(...differing);
    const { database, logger } = this.#parts.options;
    logger.warn(
      { database: database.name, pages: differing },
      `${pageList(differing)} of ${database.path}: the file is not what the log holds`,
    );
  }

  /** Frames that the index holds and that may not be in the file yet. Undefined when there is no pin or no header now. */
  #framesUpToPosition(source: SourceDatabase): FrameRange | undefined {
    const state = source.files.readWalIndex();
    if (!state || !source.pinned) return undefined;
    const { position } = this.#parts.shipper;
    // The WAL has restarted since: it does so only with all of it in the file.
    if (state.header.salt1 !== position.salt1 || state.header.salt2 !== position.salt2) return { after: 0, through: 0 };
    return { after: state.checkpoint.backfilledFrames, through: position.frame };
  }

  /** Those of `suspects` that differ every time, with everything captured that is committed. */
  async #prove(suspects: readonly number[], session: Session): Promise<number[]> {
    let differing = [...suspects];
    for (let proof = 0; proof < PROOFS && differing.length > 0; proof += 1) {
      if (proof > 0) await sleep(PROOF_PAUSE_MS);
      await this.#captured(session, async () => {
        differing = differing.filter((pageNumber) => this.#imageIfDiffering(pageNumber, session.source) !== undefined);
      });
    }
    return differing;
  }

  /** Runs `work` with everything captured up to now, under pins that keep it as it is. */
  async #captured({ source, follower }: Session, work: () => Promise<void>): Promise<void> {
    await source.handOver(async ({ header }) => {
      await follower.capture(header);
      this.#parts.saver.changed();
      await work();
    });
  }

  /** The page as the application reads it, when it is not what the index says. Undefined when they are equal. */
  #imageIfDiffering(pageNumber: number, source: SourceDatabase): Uint8Array | undefined {
    const { index } = this.#parts.shipper;
    const frames = this.#framesUpToPosition(source);
    if (!frames || pageNumber > index.sizePages) return undefined;
    const range: PageRange = { firstPage: pageNumber, count: 1, pageSize: index.pageSize };
    const image = readCommittedPages(source.files, frames, range);
    return differingPages(index, image, range).length > 0 ? image : undefined;
  }

  async #finish(run: Run, session: Session): Promise<void> {
    const { database, logger } = this.#parts.options;
    const { sizePages, pageSize } = this.#parts.shipper.index;
    const { differing } = run;
    if (differing.length * pageSize > MAX_REPAIR_BYTES) await this.#difference.ship(session.follower, session.source);
    else if (differing.length > 0) await this.#captured(session, async () => this.#repair(differing, session.source));
    this.#ended(differing.length);
    const said = { database: database.name, pages: sizePages, differing: differing.length };
    if (differing.length === 0) logger.info(said, "scrub done: every page is what the log holds");
    else logger.warn(said, `scrub done: ${pageList(differing)} of ${database.path} differed and were shipped`);
  }

  #ended(differing: number): void {
    const { shipper, options } = this.#parts;
    this.#record = { atMs: options.clock.now(), result: { pages: shipper.index.sizePages, differing } };
    this.#options.save(this.#record);
    this.abandon();
  }

  /** Ships the pages of the list that still differ as one event: the log is to say what the application reads. */
  async #repair(pageNumbers: readonly number[], source: SourceDatabase): Promise<void> {
    const { shipper, progress, saver, options } = this.#parts;
    const { database, logger } = options;
    const lastOffset = options.shipper.nextOffset() - 1;
    const images = pageNumbers.flatMap((pageNumber) => {
      const data = this.#imageIfDiffering(pageNumber, source);
      return data ? [{ pageNumber, data }] : [];
    });
    const repaired = await shipper.shipRepair(images);
    if (repaired.length === 0) return;
    progress.totals.repairs += 1;
    saver.changed({ urgent: true });
    logger.warn(
      { database: database.name, pages: repaired, lastOffset },
      `${pageList(repaired)} of ${database.path} shipped as the file has them, no commit having changed them: ` +
        "the file was damaged or written around SQLite. " +
        `Run PRAGMA integrity_check on it; the images that the log held are in \`tidemark restore --to ${lastOffset} --database ${database.name} --target DIR\``,
    );
  }
}
