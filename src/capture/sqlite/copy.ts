import { crashPoint } from "../../runtime/crash-point.ts";
import { giveBack } from "../../runtime/give-back.ts";
import { invariant } from "../../runtime/invariant.ts";
import { lockBytePage } from "../../format/database-header.ts";
import { readFilePages } from "../../sqlite/committed-pages.ts";
import type { WalIndexState } from "../../sqlite/live-files.ts";
import type { OpenCopy } from "./open-copy.ts";
import { PageSet } from "./page-set.ts";
import { committedSize } from "./page-source.ts";
import type { SealOptions } from "./seal.ts";
import type { Shipper } from "./shipper.ts";
import type { SourceDatabase } from "./source-database.ts";
import type { TransactionBatch } from "./transaction-batch.ts";
import { gap, positionAtBackfill, resumePoint, scanWal } from "./wal-scan.ts";

export interface CopyOptions {
  readonly source: SourceDatabase;
  readonly shipper: Shipper;
  readonly gapSinceMs: number;
  /** Pages are read from the database file in slices of at most this many bytes; between slices others get their turn. */
  readonly sliceBytes: number;
  readonly progress: (done: number, total: number) => void;
  /** Resolves when the log has room for another slice. */
  readonly room: () => Promise<void>;
  /** Keeps the WAL short while the copy goes on, capturing with the function given when it must. */
  readonly sealIfLong: (captures: Pick<SealOptions, "captureFirst" | "capture">) => Promise<void>;
  /** After each slice of so many bytes: keeps the rate, lets others run, stores how far the copy is. */
  readonly afterSlice: (bytes: number) => Promise<void>;
}

export interface CopyResult {
  readonly cause: OpenCopy["cause"];
  /** Change counter up to which everything is shipped. */
  readonly changeCounter: number;
}

/**
 * Ships the difference between the log (the shipper's index; empty for a copy) and the database, as one transaction: the
 * one that is open, if an earlier attempt did not come to its end.
 *
 * The copy is fuzzy: commits go on meanwhile. All frames that are not in the file at the start and all committed later
 * are captured too, and a page that came from a frame is never read from the file afterwards: the file can only be older. A page
 * read half-written by a checkpoint has its frame in the WAL that is captured, and is superseded.
 *
 * Pinned before and after. When it throws, the transaction stays open and the index as new as its parts, whatever they
 * hold: the next attempt reads every page again.
 * @throws WAL_GAP when commits passed unseen during the copy
 */
export async function copyDatabase(options: CopyOptions): Promise<CopyResult> {
  const { source, shipper, gapSinceMs } = options;
  const { pageSize } = committedSize(source.files, source.walIndex());
  const { batch, cause } = shipper.openCopy(pageSize, gapSinceMs);
  return { cause, changeCounter: await new DatabaseCopy(options, batch).run() };
}

class DatabaseCopy {
  readonly #options: CopyOptions;
  readonly #batch: TransactionBatch;
  readonly #fromFrames = new PageSet();
  readonly #images: ImageRing;
  #changeCounter: number | undefined;

  constructor(options: CopyOptions, batch: TransactionBatch) {
    this.#options = options;
    this.#batch = batch;
    this.#images = new ImageRing(batch.pagesPerRecord + 1, options.shipper.index.pageSize);
  }

  async run(): Promise<number> {
    const { source, shipper, room, sliceBytes, afterSlice, sealIfLong } = this.#options;
    crashPoint("copy: begun");
    const count = Math.max(1, Math.floor(sliceBytes / shipper.index.pageSize));
    await source.handOver(async (state) => this.#addFrames(state, { wait: true }));
    for (let next = 1; next <= shipper.index.sizePages; next += count) {
      await room();
      const bytes = this.#addSlice(next, count);
      crashPoint("copy: slice sent");
      await afterSlice(bytes);
      await source.handOver(async (state) => this.#addFrames(state, { wait: true }));
      await sealIfLong({
        captureFirst: async (state) => this.#addFrames(state, { wait: true }),
        capture: async (state) => this.#addFrames(state, { wait: false }),
      });
    }
    crashPoint("copy: all sent");
    shipper.closeCopy();
    crashPoint("copy: closed");
    invariant(this.#changeCounter !== undefined, "a copy has looked at the WAL");
    return this.#changeCounter;
  }

  async #addFrames(state: WalIndexState, options: { wait: boolean }): Promise<void> {
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
    await shipper.addCommits(source.files, scan, {
      commits: scan.commits,
      batch: this.#batch,
      onPage: (pageNumber) => this.#fromFrames.add(pageNumber),
      keepDropped: first,
      ...options,
    });
    if (scan.commits.length === 0) shipper.movePosition(resumePoint(shipper.position, header));
    this.#changeCounter = header.changeCounter;
  }

  /** Returns how much was read. */
  #addSlice(firstPage: number, most: number): number {
    const { source, shipper, progress } = this.#options;
    const { index } = shipper;
    const { pageSize, sizePages } = index;
    const count = Math.min(most, sizePages - firstPage + 1);
    const bytes = readFilePages(source.files, { firstPage, count, pageSize });
    const skip = lockBytePage(pageSize);
    for (let i = 0; i < count; i += 1) {
      const pageNumber = firstPage + i;
      if (pageNumber === skip || this.#fromFrames.has(pageNumber)) continue;
      const image = bytes.subarray(i * pageSize, (i + 1) * pageSize);
      if (index.set(pageNumber, image)) this.#batch.add(pageNumber, this.#images.keep(image));
    }
    progress(firstPage + count - 1, sizePages);
    const { length } = bytes;
    giveBack(bytes.buffer);
    return length;
  }
}

/**
 * The images that wait in a batch, so that the slices they were read in can be given back: one more than may wait,
 * because the newest is kept before the batch that is full is sent.
 */
class ImageRing {
  readonly #images: Uint8Array;
  readonly #pageSize: number;
  #at = 0;

  constructor(count: number, pageSize: number) {
    this.#images = new Uint8Array(count * pageSize);
    this.#pageSize = pageSize;
  }

  keep(image: Uint8Array): Uint8Array {
    if (this.#at === this.#images.length) this.#at = 0;
    const kept = this.#images.subarray(this.#at, (this.#at += this.#pageSize));
    kept.set(image);
    return kept;
  }
}
