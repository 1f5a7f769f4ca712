import { setImmediate as nextTurn } from "node:timers/promises";

import { giveBack } from "../runtime/give-back.ts";
import { readCommittedPages } from "../sqlite/committed-pages.ts";
import { differingPages } from "../sqlite/page-comparison.ts";
import type { PageIndex } from "../sqlite/page-index.ts";
import type { WalWriter } from "./sqlite/wal-writer.ts";

/** Compared before the event loop turns. */
export const CHECK_SLICE_BYTES = 1024 * 1024;
/** More wrong pages than this are no damage that pages of the log should mend: the standby is built anew. */
const MAX_WRONG_PAGES = 1_000_000;

/** A comparison of all pages with the index that has come to its end, with what differed repaired. */
export interface CheckResult {
  readonly atMs: number;
  readonly pages: number;
  readonly differing: number;
}

/**
 * One pass over all pages of a standby database, as SQLite's readers see them, compared with the index. Slice by slice,
 * each under a pin of its own: apply and checkpoints go on between them. Call it only while the index says exactly what
 * was appended last.
 */
export class PageCheck {
  readonly writer: WalWriter;
  /** Pages found different so far. */
  readonly wrong: number[] = [];
  /** Pages compared. */
  pages = 0;
  /** What the readers see, when the size is not the log's. */
  wrongSizePages: number | undefined;
  #nextPage = 1;

  constructor(writer: WalWriter) {
    this.writer = writer;
  }

  get found(): boolean {
    return this.wrong.length > 0 || this.wrongSizePages !== undefined;
  }

  get hopeless(): boolean {
    return this.wrong.length > MAX_WRONG_PAGES;
  }

  /** Compares the next slice. Returns whether there is more to compare. @throws STANDBY_WRITTEN, STANDBY_DIVERGED */
  slice(index: PageIndex): boolean {
    const { pageSize } = this.writer;
    const firstPage = this.#nextPage;
    const perSlice = Math.ceil(CHECK_SLICE_BYTES / pageSize);
    const range = { firstPage, count: Math.max(0, Math.min(perSlice, index.sizePages - firstPage + 1)), pageSize };
    this.writer.look(({ frames, sizePages }) => {
      if (sizePages !== index.sizePages) this.wrongSizePages = sizePages;
      const bytes = readCommittedPages(this.writer.files, frames, range);
      for (const page of differingPages(index, bytes, range)) this.wrong.push(page);
      giveBack(bytes.buffer);
    });
    this.#nextPage += range.count;
    this.pages += range.count;
    return this.#nextPage <= index.sizePages && !this.hopeless;
  }

  progress(index: PageIndex): { done: number; total: number } {
    return { done: Math.min(this.#nextPage - 1, index.sizePages), total: index.sizePages };
  }
}

/** A page as readers see it now. */
export function readPage(writer: WalWriter, pageNumber: number): Uint8Array {
  const { pageSize, files } = writer;
  return writer.look(({ frames }) => readCommittedPages(files, frames, { firstPage: pageNumber, count: 1, pageSize }));
}

/** Whether readers see `pageNumbers`, and the size, as the index says. */
export function pagesAreRight(writer: WalWriter, index: PageIndex, pageNumbers: readonly number[]): boolean {
  const { pageSize, files } = writer;
  return writer.look(({ frames, sizePages }) => {
    if (sizePages !== index.sizePages) return false;
    return pageNumbers.every((firstPage) => {
      const range = { firstPage, count: 1, pageSize };
      return (
        firstPage > sizePages || differingPages(index, readCommittedPages(files, frames, range), range).length === 0
      );
    });
  });
}

/** Makes the index of a database as readers see it. @throws STANDBY_WRITTEN when somebody commits meanwhile */
export async function indexAsRead(writer: WalWriter, index: PageIndex): Promise<PageIndex> {
  const { pageSize } = writer;
  const perSlice = Math.ceil(CHECK_SLICE_BYTES / pageSize);
  for (let firstPage = 1; ; firstPage += perSlice) {
    const more = writer.look(({ frames, sizePages }) => {
      index.resize(sizePages);
      const count = Math.max(0, Math.min(perSlice, sizePages - firstPage + 1));
      const bytes = readCommittedPages(writer.files, frames, { firstPage, count, pageSize });
      for (let i = 0; i < count; i += 1) {
        index.set(firstPage + i, bytes.subarray(i * pageSize, (i + 1) * pageSize));
      }
      giveBack(bytes.buffer);
      return firstPage + count <= sizePages;
    });
    if (!more) return index;
    await nextTurn();
  }
}
