import fs from "node:fs";

import { setImmediate as nextTurn } from "node:timers/promises";

import Database from "better-sqlite3";

import type { WalPosition } from "../../event/kinds.ts";
import { lockBytePage } from "../../format/database-header.ts";
import { scanWal } from "../../capture/sqlite/wal-scan.ts";
import { CHECK_SLICE_BYTES, indexAsRead } from "../../replica/page-check.ts";
import type { PageSource } from "../../replica/sqlite/frame-writer.ts";
import type { PageSpool } from "../../replica/sqlite/page-spool.ts";
import { storedHeader } from "../../replica/sqlite/stored-page-size.ts";
import { WalWriter } from "../../replica/sqlite/wal-writer.ts";
import type { Clock } from "../../runtime/clock.ts";
import { hasCode, TidemarkError } from "../../runtime/errors.ts";
import { readCommittedPages } from "../../sqlite/committed-pages.ts";
import { PageIndex } from "../../sqlite/page-index.ts";
import { writeFully } from "../../sqlite/write-fully.ts";

export interface FormerDatabaseOptions {
  readonly path: string;
  /** What the log says of it. */
  readonly known: PageIndex;
  readonly clock: Clock;
}

/**
 * A database of a former primary beside what the log says of it. It is open for writing from the comparison on: when
 * somebody else commits meanwhile, whatever is done next is refused with STANDBY_WRITTEN.
 */
export class FormerDatabase implements Disposable {
  readonly path: string;
  /** Last write to its files, ms since 1970. */
  readonly writtenMs: number;
  readonly writer: WalWriter;
  readonly known: PageIndex;
  /** Of the file as it is. */
  readonly index: PageIndex;
  /** Pages that are not as the log says, those that it knows nothing of included. */
  readonly differing: readonly number[];
  /** Closed last: it cannot checkpoint, so the WAL stays, which tells how many commits there were. */
  readonly #reader: Database.Database;

  private constructor(
    reader: Database.Database,
    {
      path,
      writtenMs,
      writer,
      known,
      index,
    }: Pick<FormerDatabase, "path" | "writtenMs" | "writer" | "known" | "index">,
  ) {
    this.#reader = reader;
    this.path = path;
    this.writtenMs = writtenMs;
    this.writer = writer;
    this.known = known;
    this.index = index;
    this.differing = differing(index, known);
  }

  /** Reads every page. Undefined: the file is not one whose pages can be compared. */
  static async open({ path, known, clock }: FormerDatabaseOptions): Promise<FormerDatabase | undefined> {
    const header = storedHeader(path);
    if (header?.pageSize !== known.pageSize) return undefined;
    const writtenMs = Math.max(...["", "-wal"].map((suffix) => writtenAt(path + suffix)));
    // Its pages differ then, like others that were changed.
    if (!header.wal) switchToWal(path);
    using scope = new DisposableStack();
    const reader = scope.adopt(new Database(path, { readonly: true, timeout: 0 }), (opened) => opened.close());
    const writer = scope.adopt(new WalWriter({ path, pageSize: known.pageSize, clock }), (opened) => opened.close());
    reader.pragma("schema_version");
    const index = await indexAsRead(writer, new PageIndex(known.pageSize, known.seed));
    scope.move();
    return new FormerDatabase(reader, { path, writtenMs, writer, known, index });
  }

  get isAsKnown(): boolean {
    return this.differing.length === 0 && this.index.sizePages === this.known.sizePages;
  }

  /** Those of them whose content the log must give. */
  get wanted(): readonly number[] {
    return this.differing.filter((page) => page <= this.known.sizePages);
  }

  /**
   * SQLite's commits since the log's last one, as far as the WAL tells. When it was begun anew since, there may have been more
   * before that. Undefined: it is gone.
   */
  commitsAfter(position: WalPosition): { readonly count: number; readonly isAll: boolean } | undefined {
    const header = this.writer.files.readWalIndex()?.header;
    if (!header || header.mxFrame === 0) return undefined;
    const isAll = header.salt1 === position.salt1 && header.salt2 === position.salt2;
    try {
      return { count: scanWal(this.writer.files.walFd, position, header).commits.length, isAll };
    } catch (error) {
      if (hasCode(error, "WAL_GAP")) return undefined;
      throw error;
    }
  }

  /** Writes the database as it is, or with the pages of `instead` as the log knows it, into a file of its own. */
  async copyTo(file: string, instead?: PageSpool): Promise<void> {
    const { pageSize } = this.known;
    const { sizePages } = instead ? this.known : this.index;
    const other = new Set(instead?.pageNumbers());
    const perSlice = Math.ceil(CHECK_SLICE_BYTES / pageSize);
    const fd = fs.openSync(file, "w", 0o600);
    try {
      for (let firstPage = 1; firstPage <= sizePages; firstPage += perSlice) {
        const count = Math.min(perSlice, sizePages - firstPage + 1);
        const bytes = this.writer.look(({ frames }) =>
          readCommittedPages(this.writer.files, frames, { firstPage, count, pageSize }),
        );
        for (let i = 0; i < count; i += 1)
          if (instead && other.has(firstPage + i)) bytes.set(instead.get(firstPage + i), i * pageSize);
        writeFully(fd, bytes, (firstPage - 1) * pageSize);
        await nextTurn();
      }
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
  }

  /** Makes it what the log says, in one commit, and empties its WAL. Returns the pages written. */
  async repair(pages: PageSpool): Promise<number> {
    if (!this.isAsKnown) {
      // SQLite needs a frame to carry a size that changed.
      if (pages.size === 0) pages.put(1, this.#page(1));
      const source: PageSource = pages;
      await this.writer.append(source, this.known.sizePages);
      await this.writer.sync();
    }
    this.emptyWal();
    return this.isAsKnown ? 0 : pages.size;
  }

  /** @throws APPLICATION_RUNNING */
  emptyWal(): void {
    if (!this.writer.checkpoint()) throw stillRead(this.path);
  }

  [Symbol.dispose](): void {
    this.writer.close();
    this.#reader.close();
  }

  #page(firstPage: number): Uint8Array {
    const { pageSize } = this.known;
    return this.writer.look(({ frames }) =>
      readCommittedPages(this.writer.files, frames, { firstPage, count: 1, pageSize }),
    );
  }
}

function differing(index: PageIndex, known: PageIndex): number[] {
  const skip = lockBytePage(known.pageSize);
  const pages: number[] = [];
  for (let page = 1; page <= Math.max(index.sizePages, known.sizePages); page += 1)
    if (page !== skip && index.hashOf(page) !== known.hashOf(page)) pages.push(page);
  return pages;
}

function switchToWal(path: string): void {
  const connection = new Database(path, { fileMustExist: true, timeout: 0 });
  try {
    connection.pragma("journal_mode=WAL");
  } finally {
    connection.close();
  }
}

/** 0: it is not there, or has nothing in it. */
function writtenAt(file: string): number {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  return stat && stat.size > 0 ? stat.mtimeMs : 0;
}

function stillRead(path: string): TidemarkError {
  return new TidemarkError("APPLICATION_RUNNING", `${path} is open in another process, which reads it`, {
    hint: "Stop whatever uses it (`fuser` names it), then run `tidemark rejoin` again: it goes on.",
  });
}
