import type { PageImage, SqliteCommit, WalPosition } from "../../event/kinds.ts";
import { lockBytePage } from "../../format/database-header.ts";
import type { LiveFiles } from "../../sqlite/live-files.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { invariant } from "../../runtime/invariant.ts";
import { PageIndex } from "../../sqlite/page-index.ts";
import type { LeftOver, OpenCopy } from "./open-copy.ts";
import { readUnwrittenPage } from "./page-source.ts";
import { TransactionBatch, type SendBody } from "./transaction-batch.ts";
import { frameImage, type ScannedCommit, type WalScan } from "./wal-scan.ts";

/** Pages between two looks at the log's room while a large transaction is shipped. */
const PAGES_BETWEEN_ROOM = 256;

export interface ShipperOptions {
  readonly database: string;
  readonly seed: bigint;
  readonly send: SendBody;
  /** Resolves when the log has room for more; rejects when the WAL has grown too large meanwhile. */
  readonly room: () => Promise<void>;
  readonly pagesPerRecord: (pageSize: number) => number;
  /** Offset that the next record will have: rises, and so names a transaction even across restarts of the agent. */
  readonly nextOffset: () => number;
}

/** What the log holds of a database: restored from the agent's state, or empty. */
export interface ShippedState {
  readonly index: PageIndex;
  readonly position: WalPosition;
  /** Which file it was, see SourceDatabase.file. */
  readonly file: string;
  /** The copy under way: the index is ahead of the last closing record by its parts. */
  readonly copy?: OpenCopy | undefined;
  readonly leftOver?: LeftOver | undefined;
}

/** The transaction of a copy under way; `parts` are counted by its batch. */
interface CopyUnderWay extends Omit<OpenCopy, "transaction" | "parts"> {
  readonly batch: TransactionBatch;
}

/** Turns verified frames into events and keeps the page index as new as the last event sent. */
export class Shipper {
  readonly #options: ShipperOptions;
  #index: PageIndex;
  #position: WalPosition;
  #copy: CopyUnderWay | undefined;
  #leftOver: LeftOver | undefined;

  constructor(options: ShipperOptions, state: ShippedState | undefined) {
    this.#options = options;
    this.#index = state?.index ?? new PageIndex(512, options.seed);
    if (state?.copy) this.#copy = { ...state.copy, batch: this.#batch(state.copy) };
    this.#leftOver = state?.leftOver;
    this.#position = state?.position ?? { salt1: 0, salt2: 0, frame: 0, checksum1: 0, checksum2: 0 };
  }

  get index(): PageIndex {
    return this.#index;
  }

  /** Where in the WAL the last event sent ends. */
  get position(): WalPosition {
    return this.#position;
  }

  room(): Promise<void> {
    return this.#options.room();
  }

  /** Whether a copy is to be finished before anything else of the database is shipped. */
  get copying(): boolean {
    return this.#copy !== undefined;
  }

  /** What the log holds, to be stored once everything sent is acknowledged. */
  shipped(file: string): ShippedState {
    return { index: this.#index, position: this.#position, file, copy: this.#openCopy() };
  }

  #openCopy(): OpenCopy | undefined {
    if (!this.#copy) return undefined;
    const { batch, ...rest } = this.#copy;
    batch.flush();
    return { ...rest, transaction: batch.transaction, parts: batch.parts };
  }

  /**
   * Goes on with the copy that is open, or opens one: of everything when the log holds nothing of the database or pages of
   * another size, else of the difference.
   */
  openCopy(pageSize: number, gapSinceMs: number): CopyUnderWay {
    if (this.#copy && this.#index.pageSize === pageSize) return this.#copy;
    const cause = this.#index.sizePages === 0 || this.#index.pageSize !== pageSize ? "copy" : "repair";
    if (cause === "copy") this.#index = new PageIndex(pageSize, this.#options.seed);
    const { checksum: before, sizePages: sizeBefore } = this.#index;
    const leftOver = cause === "repair" ? this.#leftOver : undefined;
    for (const [pageNumber, hash] of leftOver?.hashes ?? []) this.#index.setHash(pageNumber, hash);
    this.#leftOver = undefined;
    this.#copy = { cause, before, sizeBefore, gapSinceMs, batch: this.#batch(leftOver) };
    return this.#copy;
  }

  /** Ends the copy with its closing record; a difference of nothing needs none. */
  closeCopy(): void {
    if (!this.#copy) return;
    const { batch, cause, before, sizeBefore, gapSinceMs } = this.#copy;
    const { checksum, sizePages } = this.#index;
    const nothing = cause === "repair" && batch.isEmpty && before === checksum && sizeBefore === sizePages;
    if (!nothing) this.#close(batch, { cause, commits: 0, before, gapSinceMs });
    this.#copy = undefined;
  }

  #batch(begun?: { readonly transaction: number; readonly parts: number }): TransactionBatch {
    const { database, nextOffset, pagesPerRecord, send } = this.#options;
    const { pageSize } = this.#index;
    const transaction = begun?.transaction ?? nextOffset();
    const options = { database, transaction, pageSize, pagesPerRecord: pagesPerRecord(pageSize), send };
    return new TransactionBatch(options, begun?.parts);
  }

  /** Ships `commits` (contiguous, of one scan) as one event: the net images of all of them. */
  async shipCommits(
    files: LiveFiles,
    scan: WalScan,
    options: { readonly commits: readonly ScannedCommit[]; readonly wait: boolean },
  ): Promise<void> {
    const { commits, wait } = options;
    invariant(!this.#copy, "a copy is to be closed before a commit is shipped");
    this.#leftOver = undefined;
    await this.#atomically(async () => {
      const before = this.#index.checksum;
      const batch = this.#batch();
      await this.addCommits(files, scan, { commits, batch, wait });
      this.#close(batch, { cause: "commit", commits: commits.length, before });
      crashPoint("ship: commit sent");
    });
  }

  /**
   * Ships pages that are not what the log holds although no commit changed them, as one event.
   * Returns the numbers of those that did differ; without any there is no event.
   */
  async shipRepair(images: readonly PageImage[]): Promise<number[]> {
    invariant(!this.#copy, "a copy is to be closed before a page is repaired");
    this.#leftOver = undefined;
    const repaired: number[] = [];
    await this.#atomically(async () => {
      const before = this.#index.checksum;
      const batch = this.#batch();
      for (const { pageNumber, data } of images) {
        if (!this.#index.set(pageNumber, data)) continue;
        batch.add(pageNumber, data);
        repaired.push(pageNumber);
      }
      if (repaired.length > 0) this.#close(batch, { cause: "repair", commits: 0, before });
      crashPoint("scrub: repair sent");
    });
    return repaired;
  }

  /** When `work` throws, no closing record was sent: the log does not hold its pages, so the index must not either. */
  async #atomically(work: () => Promise<void>): Promise<void> {
    const position = this.#position;
    this.#index.begin();
    try {
      await work();
      this.#index.commit();
    } catch (error) {
      this.#index.rollback();
      this.#position = position;
      throw error;
    }
  }

  /**
   * Adds the net page images of `commits` to `batch` and the index; `onPage` learns each page number.
   * `wait` false: the write lock is held, so the log is not waited for. `keepDropped`: a copy reads every page anyway, so pages that were dropped and came back keep their old hashes.
   */
  async addCommits(
    files: LiveFiles,
    scan: WalScan,
    options: {
      readonly commits: readonly ScannedCommit[];
      readonly batch: TransactionBatch;
      readonly wait: boolean;
      readonly onPage?: (pageNumber: number) => void;
      readonly keepDropped?: boolean;
    },
  ): Promise<void> {
    const last = options.commits.at(-1);
    if (!last) return;
    const smallest = Math.min(...options.commits.map((commit) => commit.sizePages));
    const index = this.#index;
    // Pages that were dropped and came back are new: their old images no longer hold.
    if (!options.keepDropped && smallest < index.sizePages) index.resize(smallest);
    const grownFrom = index.sizePages;
    index.resize(last.sizePages);
    let sinceRoom = 0;
    for (const [pageNumber, frame] of lastFrames(scan, options.commits, last.sizePages)) {
      const image = frameImage(files.walFd, scan, frame);
      options.onPage?.(pageNumber);
      if (index.set(pageNumber, image)) options.batch.add(pageNumber, image);
      sinceRoom += 1;
      if (options.wait && sinceRoom % PAGES_BETWEEN_ROOM === 0) await this.#options.room();
    }
    this.#addUnwritten(files, { grownFrom, scan, last, batch: options.batch });
    this.#position = {
      salt1: scan.salt1,
      salt2: scan.salt2,
      frame: last.lastFrame,
      checksum1: last.checksum.c1,
      checksum2: last.checksum.c2,
    };
  }

  /** The WAL restarted and nothing is in it yet. */
  movePosition(position: WalPosition): void {
    this.#position = position;
  }

  #close(
    batch: TransactionBatch,
    fields: Pick<SqliteCommit, "cause" | "commits" | "before"> & { readonly gapSinceMs?: number },
  ): void {
    batch.close({ ...fields, sizePages: this.#index.sizePages, after: this.#index.checksum, wal: this.#position });
  }

  #addUnwritten(
    files: LiveFiles,
    grown: { grownFrom: number; scan: WalScan; last: ScannedCommit; batch: TransactionBatch },
  ): void {
    const missing = this.#index.missingPages(grown.grownFrom + 1);
    if (missing.length === 0) return;
    const range = {
      pageSize: grown.scan.pageSize,
      afterFrame: files.readWalIndex()?.checkpoint.backfilledFrames ?? 0,
      throughFrame: grown.last.lastFrame,
    };
    for (const pageNumber of missing) {
      const image = readUnwrittenPage(files, pageNumber, range);
      if (this.#index.set(pageNumber, image)) grown.batch.add(pageNumber, image);
    }
  }
}

/** Last frame of each page within the database's final size, by page number. The lock-byte page is never written. */
function lastFrames(scan: WalScan, commits: readonly ScannedCommit[], sizePages: number): [number, number][] {
  const first = commits[0]?.firstFrame ?? 0;
  const last = commits.at(-1)?.lastFrame ?? -1;
  const frames = new Map<number, number>();
  const skip = lockBytePage(scan.pageSize);
  for (let frame = first; frame <= last; frame += 1) {
    const pageNumber = scan.pageNumbers[frame - scan.firstFrame] ?? 0;
    if (pageNumber <= sizePages && pageNumber !== skip) frames.set(pageNumber, frame);
  }
  return [...frames].sort(([a], [b]) => a - b);
}
