import { invariant } from "../../runtime/invariant.ts";
import { lockBytePage } from "../../format/database-header.ts";
import { gap, positionAtBackfill, resumePoint, scanWal } from "./wal-scan.ts";
import type { WalIndexState } from "../../sqlite/live-files.ts";
import type { SealOptions } from "./seal.ts";
import type { Shipper } from "./shipper.ts";
import type { SourceDatabase } from "./source-database.ts";
import { committedSize, readFilePages } from "./page-source.ts";
import type { TransactionBatch } from "./transaction-batch.ts";

/** Pages are read from the database file in slices of this many bytes; between slices others get their turn. */
const SLICE_BYTES = 1024 * 1024;

export interface CopyOptions {
  readonly source: SourceDatabase;
  readonly shipper: Shipper;
  readonly cause: "copy" | "repair";
  readonly gapSinceMs: number;
  readonly progress: (done: number, total: number) => void;
  /** Keeps the WAL short while the copy goes on, capturing with the function given when it must. */
  readonly sealIfLong: (captures: Pick<SealOptions, "captureFirst" | "capture">) => Promise<void>;
  /** Lets others run and keeps the rate: resolves when the next slice of this many bytes may be read. */
  readonly pace: (bytes: number) => Promise<void>;
}

/**
 * Ships the difference between the log (the shipper's index; empty for a copy) and the database, as one transaction.
 *
 * The copy is fuzzy: commits go on meanwhile. All frames that are not in the file at the start and all committed later
 * are captured too, and a page that came from a frame is never read from the file afterwards: the file can only be older. A page
 * read half-written by a checkpoint has its frame in the WAL that is captured, and is superseded.
 *
 * Returns the change counter up to which everything is shipped. Pinned before and after.
 * @throws WAL_GAP when commits passed unseen during the copy; the caller starts again
 */
export async function copyDatabase(options: CopyOptions): Promise<number> {
  const { source, shipper, cause } = options;
  const { pageSize } = committedSize(source.files, source.walIndex());
  if (cause === "copy" || shipper.index.pageSize !== pageSize) {
    shipper.resetIndex(pageSize);
    return new DatabaseCopy(options, "copy").run();
  }
  return new DatabaseCopy(options, "repair").run();
}

class DatabaseCopy {
  readonly #options: CopyOptions;
  readonly #cause: "copy" | "repair";
  readonly #fromFrames = new Set<number>();
  #changeCounter: number | undefined;

  constructor(options: CopyOptions, cause: "copy" | "repair") {
    this.#options = options;
    this.#cause = cause;
  }

  async run(): Promise<number> {
    const { source, shipper, pace, sealIfLong } = this.#options;
    await shipper.atomically(async () => {
      const before = shipper.index.checksum;
      const sizeBefore = shipper.index.sizePages;
      const batch = shipper.openBatch();
      await source.handOver(async (state) => this.#addFrames(batch, state, { wait: true }));
      let next = 1;
      while (next <= shipper.index.sizePages) {
        next = await this.#addSlice(batch, next);
        await pace(SLICE_BYTES);
        await sealIfLong({
          captureFirst: async (state) => this.#addFrames(batch, state, { wait: true }),
          capture: async (state) => this.#addFrames(batch, state, { wait: false }),
        });
        await source.handOver(async (state) => this.#addFrames(batch, state, { wait: true }));
      }
      // Nothing awaits between the last frames and the closing record but the log's room.
      const unchanged = batch.isEmpty && before === shipper.index.checksum && sizeBefore === shipper.index.sizePages;
      if (this.#cause === "repair" && unchanged) return;
      const gapSinceMs = this.#options.gapSinceMs;
      shipper.close(batch, { cause: this.#cause, commits: 0, before, gapSinceMs });
    });
    invariant(this.#changeCounter !== undefined, "a copy has looked at the WAL");
    return this.#changeCounter;
  }

  async #addFrames(batch: TransactionBatch, state: WalIndexState, options: { wait: boolean }): Promise<void> {
    const { source, shipper } = this.#options;
    const { header } = state;
    const first = this.#changeCounter === undefined;
    if (first) {
      shipper.index.resize(committedSize(source.files, state).sizePages);
      shipper.movePosition(positionAtBackfill(source.files.walFd, state));
    }
    const scan = scanWal(source.files.walFd, shipper.position, header);
    const expected = (header.changeCounter - (this.#changeCounter ?? 0)) >>> 0;
    if (!first && expected !== scan.commits.length) {
      throw gap(`the wal-index counts ${expected} commits during the copy, the WAL shows ${scan.commits.length}`);
    }
    const onPage = (pageNumber: number): void => {
      this.#fromFrames.add(pageNumber);
    };
    await shipper.addCommits(source.files, scan, {
      commits: scan.commits,
      batch,
      onPage,
      keepDropped: first,
      ...options,
    });
    if (scan.commits.length === 0) shipper.movePosition(resumePoint(shipper.position, header));
    this.#changeCounter = header.changeCounter;
  }

  /** Returns the first page after the slice. */
  async #addSlice(batch: TransactionBatch, firstPage: number): Promise<number> {
    const { source, shipper, progress } = this.#options;
    const { pageSize, sizePages } = shipper.index;
    const count = Math.min(Math.max(1, Math.floor(SLICE_BYTES / pageSize)), sizePages - firstPage + 1);
    const bytes = readFilePages(source.files, firstPage, { count, pageSize });
    const skip = lockBytePage(pageSize);
    for (let i = 0; i < count; i += 1) {
      const pageNumber = firstPage + i;
      if (pageNumber === skip || this.#fromFrames.has(pageNumber)) continue;
      const image = bytes.subarray(i * pageSize, (i + 1) * pageSize);
      if (shipper.index.set(pageNumber, image)) batch.add(pageNumber, image);
    }
    progress(firstPage + count - 1, sizePages);
    await shipper.room();
    return firstPage + count;
  }
}
