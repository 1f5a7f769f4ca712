import Database from "better-sqlite3";

/** The page that holds the byte at 1 GiB is for locks and has no content. */
const LOCK_BYTE = 0x4000_0000;

export interface PageDifference {
  readonly pageSize: number;
  /** Size of each in pages. */
  readonly sizes: readonly [number, number];
  /** 1-based numbers of the pages that differ, the first hundred at most. */
  readonly pages: readonly number[];
  /** How many differ, pages that only one of them has included. */
  readonly count: number;
}

/**
 * Compares two SQLite databases page for page as a reader sees them, committed WAL content included. Undefined when
 * they are equal. Reads through SQLite itself in a read transaction, without writing or checkpointing anything.
 */
export function comparePages(first: string, second: string): PageDifference | undefined {
  const a = committedImage(first);
  const b = committedImage(second);
  const pageSize = pageSizeOf(a);
  const sizes: [number, number] = [a.length / pageSize, b.length / pageSize];
  const pages: number[] = [];
  let count = pageSizeOf(b) === pageSize ? 0 : Infinity;
  for (let pageNumber = 1; pageNumber <= Math.max(...sizes); pageNumber += 1) {
    const start = (pageNumber - 1) * pageSize;
    if (start === LOCK_BYTE) continue;
    const end = start + pageSize;
    if (end <= a.length && end <= b.length && a.compare(b, start, end, start, end) === 0) continue;
    count += 1;
    if (pages.length < 100) pages.push(pageNumber);
  }
  return count === 0 ? undefined : { pageSize, sizes, pages, count };
}

/** All pages as the last commit left them. For databases that fit into memory. */
export function committedImage(path: string): Buffer {
  const database = new Database(path, { readonly: true, fileMustExist: true, timeout: 5000 });
  try {
    return database.serialize();
  } finally {
    database.close();
  }
}

function pageSizeOf(image: Buffer): number {
  const stored = image.length < 18 ? 512 : image.readUInt16BE(16);
  return stored === 1 ? 65_536 : stored;
}
