import { lockBytePage } from "../format/database-header.ts";
import type { UnprovedBlob } from "../repository/blob-store.ts";
import { PlacedReader } from "../repository/placed-blob.ts";
import { pageHash } from "../sqlite/page-index.ts";
import { writeFully } from "../sqlite/write-fully.ts";

/** Pages that follow each other. */
export interface PageRun {
  readonly firstPage: number;
  /** Where they lie in their blob, in bytes; a multiple of the page size. */
  readonly at: number;
  readonly bytes: number;
}

/** A database that is written page by page. */
export interface PageTarget {
  readonly fd: number;
  readonly pageSize: number;
  /** Of the set's checksums. */
  readonly seed: bigint;
}

/** Pages, and where they belong. */
export interface PageBlob {
  readonly target: PageTarget;
  readonly runs: readonly PageRun[];
  readonly blob: UnprovedBlob;
}

/** Of the pages of a blob, in their order. Undefined: it could not be read where it lies, and nothing of it was written. */
export type PageHashes = BigUint64Array<ArrayBuffer> | undefined;

/** Writes pages where they belong. Of one thread. */
export class PageBlobs implements Disposable {
  readonly #reader = new PlacedReader();

  /** In their order. @throws what the disk says of a write */
  write(blobs: readonly PageBlob[]): PageHashes[] {
    const placed = blobs.flatMap(({ blob }) => (blob instanceof Uint8Array ? [] : [blob]));
    return this.#reader.read(placed, (raws) => {
      const rest = raws.values();
      return blobs.map(({ target, runs, blob }) => {
        const data = blob instanceof Uint8Array ? blob : rest.next().value;
        return data && writePages(target, runs, data);
      });
    });
  }

  [Symbol.dispose](): void {
    this.#reader[Symbol.dispose]();
  }
}

/** The hashes of the pages in their order. @throws what the disk says */
function writePages(
  { fd, pageSize, seed }: PageTarget,
  runs: readonly PageRun[],
  blob: Uint8Array,
): BigUint64Array<ArrayBuffer> {
  const hashes = new BigUint64Array(runs.reduce((sum, { bytes }) => sum + bytes / pageSize, 0));
  const lockPage = lockBytePage(pageSize);
  let next = 0;
  for (const { firstPage, at: start, bytes } of runs) {
    const data = blob.subarray(start, start + bytes);
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
