import { FRAME_HEADER_BYTES, frameByteOffset } from "../format/wal.ts";
import { entriesOf, locateEntry } from "../format/wal-index.ts";
import type { LiveFiles } from "./live-files.ts";
import { readUpTo } from "./write-fully.ts";

/** Frames `after + 1` to `through` of a WAL. */
export interface FrameRange {
  readonly after: number;
  readonly through: number;
}

export interface PageRange {
  readonly firstPage: number;
  readonly count: number;
  readonly pageSize: number;
}

/**
 * Pages as SQLite's readers see them: from the last of `frames` that holds the page, else from the database file;
 * beyond its end they are zeros. `frames` are those that are not in the file yet; a pin must keep them from being
 * overwritten, and the file from getting later ones.
 */
export function readCommittedPages(files: LiveFiles, frames: FrameRange, range: PageRange): Uint8Array {
  const { firstPage, count, pageSize } = range;
  const bytes = readFilePages(files, range);
  const pageNumbers = readEntries(files.shmFd, frames);
  const last = new Map<number, number>();
  for (let i = 0; i < pageNumbers.length; i += 1) {
    const at = (pageNumbers[i] as number) - firstPage;
    if (at >= 0 && at < count) last.set(at, frames.after + 1 + i);
  }
  for (const [at, frame] of last) {
    const target = bytes.subarray(at * pageSize, (at + 1) * pageSize);
    readUpTo(files.walFd, target, frameByteOffset(frame, pageSize) + FRAME_HEADER_BYTES);
  }
  return bytes;
}

/** Pages from the database file; beyond its end they are zeros, as SQLite reads them. */
export function readFilePages(files: LiveFiles, { firstPage, count, pageSize }: PageRange): Uint8Array {
  const bytes = new Uint8Array(count * pageSize);
  readUpTo(files.databaseFd, bytes, (firstPage - 1) * pageSize);
  return bytes;
}

/** Page numbers of committed frames, from the wal-index. */
export function readEntries(shmFd: number, { after, through }: FrameRange): Uint32Array {
  const pageNumbers = new Uint32Array(Math.max(0, through - after));
  for (let done = 0; done < pageNumbers.length;) {
    const { block, index, byteOffset } = locateEntry(after + done + 1);
    const count = Math.min(entriesOf(block).count - index, pageNumbers.length - done);
    readUpTo(shmFd, new Uint8Array(pageNumbers.buffer, done * 4, count * 4), byteOffset);
    done += count;
  }
  return pageNumbers;
}
