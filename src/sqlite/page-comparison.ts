import { lockBytePage } from "../format/database-header.ts";
import type { PageRange } from "./committed-pages.ts";
import { pageHash, type PageIndex } from "./page-index.ts";

/** Page numbers in `range` whose image in `bytes` is not what the index says. The lock-byte page has no content. */
export function differingPages(index: PageIndex, bytes: Uint8Array, range: PageRange): number[] {
  const { firstPage, count, pageSize } = range;
  const skip = lockBytePage(pageSize);
  const differing: number[] = [];
  for (let i = 0; i < count; i += 1) {
    const pageNumber = firstPage + i;
    if (pageNumber === skip) continue;
    const image = bytes.subarray(i * pageSize, (i + 1) * pageSize);
    if (pageHash(index.seed, pageNumber, image) !== index.hashOf(pageNumber)) differing.push(pageNumber);
  }
  return differing;
}

const NAMED_PAGES = 20;

/** `page 7`, `pages 7, 8, 12`, `pages 1, 2, … and 300 more`, for people. */
export function pageList(pageNumbers: readonly number[]): string {
  const named = pageNumbers.slice(0, NAMED_PAGES).join(", ");
  const more = pageNumbers.length - NAMED_PAGES;
  return `page${pageNumbers.length === 1 ? "" : "s"} ${named}${more > 0 ? ` and ${more} more` : ""}`;
}

/** How the comparison of a whole database with what the log says went, for `status`. */
export interface ScrubStatus {
  /** When the last one ended, RFC 3339; undefined before the first. */
  readonly at: string | undefined;
  /** Pages that the last one compared. */
  readonly pages: number;
  /** Those of them that differed, and were repaired. */
  readonly differing: number;
  /** The one that is under way. */
  readonly running: { readonly done: number; readonly total: number } | undefined;
}
