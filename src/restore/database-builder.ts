import fs from "node:fs";

import type { LogEvent, PageImage, SqliteCommit, SqlitePart } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import { lockBytePage } from "../format/database-header.ts";
import { writeAll, writeFully } from "../sqlite/write-fully.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { PageIndex } from "../sqlite/page-index.ts";
import type { UnprovedBlob } from "../repository/blob-store.ts";
import type { PageHashes } from "./fetched-state.ts";
import type { PageWriter } from "./page-writer.ts";
import { runsInMemory, runsOf, singly } from "./page-runs.ts";
import type { PlannedDatabase } from "./plan.ts";
import { SyncBehind } from "./sync-behind.ts";

const { O_RDWR, O_CREAT } = fs.constants;

/**
 * Writes one database, from a base if there is one and from its events, into a new file, and proves the rolling checksum of each. Pages go straight into
 * the file, parts of large transactions too: the plan knows which of them were closed, and nobody sees the file before
 * all of them are in it.
 */
export class DatabaseBuilder {
  readonly plan: PlannedDatabase;
  readonly file: string;
  readonly #fd: number;
  readonly #seed: bigint;
  #index: PageIndex;
  readonly #syncer: SyncBehind;
  /** Events up to here are in it. */
  #settledAt: Offset;
  #open: { readonly transaction: number; readonly before: bigint; parts: number } | undefined;

  constructor(plan: PlannedDatabase, file: string, seed: bigint) {
    this.plan = plan;
    this.#settledAt = plan.afterOffset;
    this.file = file;
    // One that a killed restore left behind is gone on with: see takeOver.
    this.#fd = fs.openSync(file, O_RDWR | O_CREAT, 0o666);
    this.#syncer = new SyncBehind(this.#fd);
    this.#seed = seed;
    this.#index = new PageIndex(plan.pageSize, seed);
  }

  /**
   * Pages of the base, which the writer has from now on; of a page that comes again the last image counts, and those behind
   * the end do not. Before all events. `onUnread`: they could not be read where they lie.
   */
  fill(writer: PageWriter, { lane, blob, pages }: BasePages, onUnread: () => void): void {
    const { pageSize, base } = this.plan;
    const end = base?.sizePages ?? 0;
    const length = blob instanceof Uint8Array ? blob.length : blob.rawBytes;
    const runs = (
      typeof pages === "number" ? [{ firstPage: pages, at: 0, bytes: length }] : singly(pages, pageSize, length)
    )
      .map((run) => ({ ...run, bytes: Math.min(run.bytes, Math.max(0, end - run.firstPage + 1) * pageSize) }))
      .filter(({ bytes }) => bytes > 0);
    const target = { fd: this.#fd, pageSize, seed: this.#seed };
    writer.write(lane, { target, runs, blob }, (hashes) => {
      if (!hashes) return onUnread();
      let next = 0;
      for (const { firstPage, bytes } of runs) {
        const count = bytes / pageSize;
        this.#index.setHashes(firstPage, hashes.subarray(next, next + count));
        next += count;
      }
      this.#syncer.wrote(next * pageSize);
    });
  }

  /** Nothing but zeros, up to the end of the database: the file has a hole there. */
  fillZeros(firstPage: number, bytes: number): void {
    const { pageSize, base } = this.plan;
    const page = new Uint8Array(pageSize);
    const end = Math.min(firstPage + bytes / pageSize, (base?.sizePages ?? 0) + 1);
    for (let pageNumber = firstPage; pageNumber < end; pageNumber += 1) this.#index.set(pageNumber, page);
  }

  /** Hashes of the pages that were filled since the last call. */
  takeHashes(): PageHashes[] {
    return this.#index.takeDirtyBlocks();
  }

  /** Pages of the base that an earlier restore wrote into the file. */
  takeOver(hashes: Iterable<PageHashes>): void {
    this.#index.resize(this.plan.base?.sizePages ?? 0);
    for (const { block, hashes: words } of hashes) this.#index.loadBlock(block, words);
  }

  /** Whatever was filled is to be filled anew. */
  clear(): void {
    fs.ftruncateSync(this.#fd, 0);
    this.#index = new PageIndex(this.plan.pageSize, this.#seed);
  }

  /** All of the base was filled. */
  endBase(): void {
    this.#index.resize(this.plan.base?.sizePages ?? 0);
  }

  /** Whether what was filled is the base that it should be. */
  get isBase(): boolean {
    return this.plan.base?.checksum === this.#index.checksum;
  }

  /** @throws CHECKSUM_MISMATCH when it is not the base at this offset */
  proveBase(at: Offset): void {
    if (this.isBase) return;
    const { name, base } = this.plan;
    const [found, expected] = [this.#index.checksum, base?.checksum ?? 0n];
    throw checksumMismatch(name, at, { when: "of the base after", found, expected });
  }

  /** Pages as they are after the events that are replayed, in ascending order. */
  putPages(pages: readonly PageImage[]): void {
    const { pageSize } = this.plan;
    for (const { pageNumber, data } of pages) this.#index.set(pageNumber, data);
    for (const run of runsOf(pages)) {
      writeAll(
        this.#fd,
        run.map(({ data }) => data),
        ((run[0]?.pageNumber ?? 1) - 1) * pageSize,
      );
      this.#syncer.wrote(run.length * pageSize);
    }
  }

  /** All pages of the events up to `at` were put, and those that are `gone` belong to nothing any more. @throws CHECKSUM_MISMATCH */
  settle(at: Offset, { sizePages, checksum, gone }: Settled): void {
    const { name, pageSize } = this.plan;
    const zeros = new Uint8Array(pageSize);
    for (const pageNumber of gone) {
      this.#index.setHash(pageNumber, 0n);
      writeFully(this.#fd, zeros, (pageNumber - 1) * pageSize);
    }
    this.#index.resize(sizePages);
    fs.ftruncateSync(this.#fd, sizePages * pageSize);
    const found = this.#index.checksum;
    if (found !== checksum) throw checksumMismatch(name, at, { when: "after", found, expected: checksum });
    this.#settledAt = at;
  }

  /** @throws CHECKSUM_MISMATCH, RECORD_INVALID */
  take(event: LogEvent, body: SqlitePart | SqliteCommit): void {
    if (event.offset <= this.#settledAt || event.offset > this.plan.offset) return;
    if (body.kind === "sqlite.commit") this.#commit(event.offset, body);
    else if (this.plan.transactions.has(body.transaction)) this.#part(event.offset, body);
  }

  /** The file's size becomes exact and its content durable. @throws CHECKSUM_MISMATCH */
  async finish(): Promise<void> {
    const { name, offset, pageSize, sizePages, checksum } = this.plan;
    if (this.#index.checksum !== checksum || this.#index.sizePages !== sizePages || this.#open) {
      throw checksumMismatch(name, offset, { when: "after", found: this.#index.checksum, expected: checksum });
    }
    fs.ftruncateSync(this.#fd, sizePages * pageSize);
    await this.#syncer.finish();
  }

  async close(): Promise<void> {
    await this.#syncer.idle();
    fs.closeSync(this.#fd);
  }

  #put(data: Uint8Array, firstPage: number): void {
    writeFully(this.#fd, data, (firstPage - 1) * this.plan.pageSize);
    this.#syncer.wrote(data.length);
  }

  #part(at: Offset, part: SqlitePart): void {
    if (part.sequence === 0) this.#open = { transaction: part.transaction, before: this.#index.checksum, parts: 0 };
    const open = this.#open;
    if (open?.transaction !== part.transaction || open.parts !== part.sequence) {
      throw notWhole(part, at, `part ${part.sequence} came where part ${open?.parts ?? 0} belongs`);
    }
    open.parts += 1;
    this.#write(part, at);
  }

  #commit(at: Offset, body: SqliteCommit): void {
    const open = this.#open?.transaction === body.transaction ? this.#open : undefined;
    if ((open?.parts ?? 0) !== body.parts)
      throw notWhole(body, at, `it has ${body.parts} parts, ${open?.parts ?? 0} came`);
    this.#open = undefined;
    const before = open?.before ?? this.#index.checksum;
    const name = body.database;
    if (before !== body.before)
      throw checksumMismatch(name, at, { when: "before", found: before, expected: body.before });
    this.#write(body, at);
    const shrinks = body.sizePages < this.#index.sizePages;
    this.#index.resize(body.sizePages);
    if (shrinks) fs.ftruncateSync(this.#fd, body.sizePages * body.pageSize);
    const found = this.#index.checksum;
    if (found !== body.after) throw checksumMismatch(name, at, { when: "after", found, expected: body.after });
  }

  #write(body: SqlitePart | SqliteCommit, at: Offset): void {
    const { pageSize, peakPages } = this.plan;
    if (body.pageSize !== pageSize)
      throw notWhole(body, at, `its page size is ${body.pageSize}, the copy's ${pageSize}`);
    const lockPage = lockBytePage(pageSize);
    for (const page of body.pages) requireImage(page, body, at);
    // Pages beyond any committed size are dropped at the commit anyway.
    const pages = body.pages.filter(({ pageNumber }) => pageNumber !== lockPage && pageNumber <= peakPages);
    for (const page of pages) this.#index.set(page.pageNumber, page.data);
    for (const { firstPage, data } of runsInMemory(pages)) this.#put(data, firstPage);
  }
}

/** Pages of a base, as a repository has them. */
export interface BasePages {
  /** Of the writer. */
  readonly lane: number;
  readonly blob: UnprovedBlob;
  /** The first of those that follow each other; or the number of each, where 0 stands for one that does not count. */
  readonly pages: number | readonly number[];
}

/** The state of a database after some event. */
export interface Settled {
  readonly sizePages: number;
  readonly checksum: bigint;
  /** Pages that were dropped and came back without being written. */
  readonly gone: Iterable<number>;
}

function requireImage(page: PageImage, body: SqlitePart | SqliteCommit, at: Offset): void {
  if (Number.isSafeInteger(page.pageNumber) && page.pageNumber > 0 && page.data.length === body.pageSize) return;
  throw notWhole(body, at, `page ${page.pageNumber} has ${page.data.length} bytes`);
}

export function notWhole(
  body: Pick<SqlitePart, "transaction" | "database">,
  at: Offset,
  evidence: string,
): TidemarkError {
  return new TidemarkError(
    "RECORD_INVALID",
    `offset ${at}: transaction ${body.transaction} of ${body.database} is not whole: ${evidence}`,
    { hint: `The writer of the log is at fault; report it. Points before offset ${at} can be restored.` },
  );
}

export function checksumMismatch(
  name: string,
  at: Offset,
  found: { readonly when: string; readonly found: bigint; readonly expected: bigint },
): TidemarkError {
  return new TidemarkError(
    "CHECKSUM_MISMATCH",
    `${name} at offset ${at}: the checksum ${found.when} the event is ${hex(found.found)}, the log says ${hex(found.expected)}`,
    {
      hint: "Nothing was handed over. Run it again with another disk for the target; if it comes back, restore a point before this offset and report it.",
    },
  );
}

/** 16 hex digits. */
export function hex(checksum: bigint): string {
  return checksum.toString(16).padStart(16, "0");
}
