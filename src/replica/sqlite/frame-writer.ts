import { setImmediate as nextTurn } from "node:timers/promises";

import { encodeFrame, FRAME_HEADER_BYTES, frameByteOffset, type Checksum } from "../../format/wal.ts";
import { writeFully } from "../../sqlite/write-fully.ts";
import { crashPoint } from "../../runtime/crash-point.ts";

/** Frames are written in pieces of about this many bytes; the event loop turns between them. */
const PIECE_BYTES = 1024 * 1024;

/** What is appended as one commit. */
export interface PageSource {
  /** Not empty. */
  pageNumbers(): Uint32Array;
  get(pageNumber: number): Uint8Array;
}

/** Where the WAL stands before the first frame. */
export interface WalEnd {
  readonly pageSize: number;
  readonly mxFrame: number;
  readonly salt1: number;
  readonly salt2: number;
  readonly checksum: Checksum;
  readonly bigEndian: boolean;
}

/** Writes one frame a page after `end`; the last one carries the commit size. Returns the running checksum. */
export async function writeFrames(
  walFd: number,
  end: WalEnd,
  commit: { pageNumbers: Uint32Array; pages: PageSource; sizePages: number },
): Promise<Checksum> {
  const { pageNumbers } = commit;
  const frameBytes = FRAME_HEADER_BYTES + end.pageSize;
  const perPiece = Math.max(1, Math.floor(PIECE_BYTES / frameBytes));
  const piece = new Uint8Array(Math.min(perPiece, pageNumbers.length) * frameBytes);
  let checksum = end.checksum;
  for (let first = 0; first < pageNumbers.length; first += perPiece) {
    if (first > 0) {
      crashPoint("append: between frames");
      await nextTurn();
    }
    const count = Math.min(perPiece, pageNumbers.length - first);
    for (let i = 0; i < count; i += 1) {
      const pageNumber = pageNumbers[first + i] as number;
      const last = first + i + 1 === pageNumbers.length;
      checksum = encodeFrame(piece, i * frameBytes, {
        pageNumber,
        commitSizePages: last ? commit.sizePages : 0,
        salt1: end.salt1,
        salt2: end.salt2,
        page: commit.pages.get(pageNumber),
        start: checksum,
        bigEndian: end.bigEndian,
      });
    }
    writeFully(walFd, piece.subarray(0, count * frameBytes), frameByteOffset(end.mxFrame + 1 + first, end.pageSize));
  }
  crashPoint("append: frames");
  return checksum;
}
