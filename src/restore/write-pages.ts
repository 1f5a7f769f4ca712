import { lockBytePage } from "../format/database-header.ts";
import { pageHash } from "../sqlite/page-index.ts";
import { writeFully } from "../sqlite/write-fully.ts";

/** Pages that follow each other. */
export interface PageRun {
  readonly firstPage: number;
  /** A multiple of the page size. */
  readonly data: Uint8Array;
}

/** A database that is written page by page. */
export interface PageTarget {
  readonly fd: number;
  readonly pageSize: number;
  /** Of the set's checksums. */
  readonly seed: bigint;
}

/** Writes them where they belong; the hashes of the pages in their order. @throws what the disk says */
export function writePages({ fd, pageSize, seed }: PageTarget, runs: readonly PageRun[]): BigUint64Array<ArrayBuffer> {
  const hashes = new BigUint64Array(runs.reduce((sum, { data }) => sum + data.length / pageSize, 0));
  const lockPage = lockBytePage(pageSize);
  let next = 0;
  for (const { firstPage, data } of runs) {
    for (let at = 0; at < data.length; at += pageSize, next += 1) {
      const pageNumber = firstPage + at / pageSize;
      const page = data.subarray(at, at + pageSize);
      if (pageNumber !== lockPage) hashes[next] = pageHash(seed, pageNumber, page);
      // No checksum proves it, and nobody reads it.
      else page.fill(0);
    }
    writeFully(fd, data, (firstPage - 1) * pageSize);
  }
  return hashes;
}
