import fs from "node:fs";

import { decodeWalIndexHeader } from "../../src/format/wal-index.ts";
import {
  decodeFrameHeader,
  decodeWalHeader,
  FRAME_HEADER_BYTES,
  frameByteOffset,
  frameChecksum,
} from "../../src/format/wal.ts";

/**
 * Looks at a database's WAL from outside. `committed` is mxFrame of the wal-index; `valid` is the last frame of the
 * last commit that a reader of the WAL alone would believe in. Beyond `committed` is what SQLite will never honour.
 */
export function walFrames(database: string): { committed: number; valid: number } {
  const wal = fs.readFileSync(`${database}-wal`);
  const header = decodeWalHeader(wal);
  const committed = decodeWalIndexHeader(fs.readFileSync(`${database}-shm`))?.mxFrame ?? 0;
  if (!header) return { committed, valid: 0 };
  const { pageSize } = header;
  let checksum = header.checksum;
  let valid = 0;
  for (let frame = 1; frameByteOffset(frame + 1, pageSize) <= wal.length; frame += 1) {
    const byteOffset = frameByteOffset(frame, pageSize);
    const decoded = decodeFrameHeader(wal, byteOffset);
    checksum = frameChecksum(wal.subarray(byteOffset, byteOffset + FRAME_HEADER_BYTES + pageSize), {
      byteOffset: 0,
      pageSize,
      bigEndian: header.bigEndianChecksums,
      start: checksum,
    });
    const sameSalts = decoded.salt1 === header.salt1 && decoded.salt2 === header.salt2;
    if (!sameSalts || decoded.checksum.c1 !== checksum.c1 || decoded.checksum.c2 !== checksum.c2) break;
    if (decoded.commitSizePages > 0) valid = frame;
  }
  return { committed, valid };
}
