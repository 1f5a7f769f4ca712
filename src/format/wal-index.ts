import { CHECKSUM_START, walChecksum, type Checksum } from "./wal.ts";

/**
 * The wal-index (`-shm`), https://www.sqlite.org/walformat.html section 2. All integers are in the host's byte order.
 * What it says is what is committed: the WAL itself can hold valid frames that SQLite will never honour.
 */

/** Two header copies of 48 bytes, then the checkpoint information of 40. */
export const WAL_INDEX_HEADER_BYTES = 136;
const HEADER_COPY_BYTES = 48;
const WAL_INDEX_VERSION = 3_007_000;

/** The wal-index is grown and mapped in blocks of 32 KiB, each with its own hash table. */
export const BLOCK_BYTES = 32_768;
/** Byte position of a block's 8,192 u16 hash slots. */
export const HASH_TABLE_BYTE_OFFSET = 16_384;
export const HASH_SLOTS = 8_192;
const ENTRIES_PER_BLOCK = 4_096;
/** The first block gives up 136 bytes, that is 34 entries, to the header. */
const ENTRIES_IN_FIRST_BLOCK = ENTRIES_PER_BLOCK - WAL_INDEX_HEADER_BYTES / 4;

export interface WalIndexHeader {
  /** Change counter: goes up by one with every commit, mod 2^32. Starts again at 0 when the wal-index is rebuilt. */
  readonly changeCounter: number;
  readonly bigEndianChecksums: boolean;
  readonly pageSize: number;
  /** Last committed frame, 1-based; 0 = the WAL is empty. */
  readonly mxFrame: number;
  readonly sizePages: number;
  readonly frameChecksum: Checksum;
  readonly salt1: number;
  readonly salt2: number;
}

export interface CheckpointInfo {
  /** Frames that are in the database file already. */
  readonly backfilledFrames: number;
  /** Read marks 0 to 4; 0xffffffff = unused. */
  readonly readMarks: readonly number[];
  /** Frames that a checkpoint has begun to copy. */
  readonly backfillAttemptedFrames: number;
}

const littleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/**
 * Undefined when the two copies differ or the checksum is wrong: a writer is between its two writes (look again), or
 * died there (the next connection rebuilds the wal-index). Also undefined when it was never initialised.
 */
export function decodeWalIndexHeader(data: Uint8Array): WalIndexHeader | undefined {
  if (data.length < 2 * HEADER_COPY_BYTES) return undefined;
  for (let i = 0; i < HEADER_COPY_BYTES; i += 1) {
    if (data[i] !== data[HEADER_COPY_BYTES + i]) return undefined;
  }
  const view = new DataView(data.buffer, data.byteOffset, HEADER_COPY_BYTES);
  if (view.getUint32(0, littleEndian) !== WAL_INDEX_VERSION || view.getUint8(12) === 0) return undefined;
  const checksum = headerChecksum(data);
  if (checksum.c1 !== view.getUint32(40, littleEndian) || checksum.c2 !== view.getUint32(44, littleEndian)) {
    return undefined;
  }
  const storedPageSize = view.getUint16(14, littleEndian);
  return {
    changeCounter: view.getUint32(8, littleEndian),
    bigEndianChecksums: view.getUint8(13) === 1,
    // 65,536 does not fit into 16 bits and is stored as 1.
    pageSize: (storedPageSize & 0xfe00) + ((storedPageSize & 1) << 16),
    mxFrame: view.getUint32(16, littleEndian),
    sizePages: view.getUint32(20, littleEndian),
    frameChecksum: { c1: view.getUint32(24, littleEndian), c2: view.getUint32(28, littleEndian) },
    // Salts are copied byte for byte from the WAL header, where they are big-endian.
    salt1: view.getUint32(32, false),
    salt2: view.getUint32(36, false),
  };
}

/** One header copy of 48 bytes; write it at byte 48 first, then at byte 0, as SQLite does. */
export function encodeWalIndexHeader(header: WalIndexHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_COPY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, WAL_INDEX_VERSION, littleEndian);
  view.setUint32(8, header.changeCounter, littleEndian);
  view.setUint8(12, 1);
  view.setUint8(13, header.bigEndianChecksums ? 1 : 0);
  view.setUint16(14, (header.pageSize & 0xff00) | (header.pageSize >>> 16), littleEndian);
  view.setUint32(16, header.mxFrame, littleEndian);
  view.setUint32(20, header.sizePages, littleEndian);
  view.setUint32(24, header.frameChecksum.c1, littleEndian);
  view.setUint32(28, header.frameChecksum.c2, littleEndian);
  view.setUint32(32, header.salt1, false);
  view.setUint32(36, header.salt2, false);
  const checksum = headerChecksum(bytes);
  view.setUint32(40, checksum.c1, littleEndian);
  view.setUint32(44, checksum.c2, littleEndian);
  return bytes;
}

function headerChecksum(data: Uint8Array): Checksum {
  return walChecksum(data, { byteOffset: 0, byteLength: 40, bigEndian: !littleEndian, start: CHECKSUM_START });
}

/** `data` holds the first 136 bytes of the wal-index. */
export function decodeCheckpointInfo(data: Uint8Array): CheckpointInfo {
  const view = new DataView(data.buffer, data.byteOffset, WAL_INDEX_HEADER_BYTES);
  return {
    backfilledFrames: view.getUint32(96, littleEndian),
    readMarks: [0, 1, 2, 3, 4].map((slot) => view.getUint32(100 + 4 * slot, littleEndian)),
    backfillAttemptedFrames: view.getUint32(128, littleEndian),
  };
}

/** Where a frame's entry is: the block, the 0-based index in it, and the byte position of its page number in the file. */
export function locateEntry(frame: number): { block: number; index: number; byteOffset: number } {
  if (frame <= ENTRIES_IN_FIRST_BLOCK) {
    return { block: 0, index: frame - 1, byteOffset: WAL_INDEX_HEADER_BYTES + (frame - 1) * 4 };
  }
  const beyondFirst = frame - 1 - ENTRIES_IN_FIRST_BLOCK;
  const block = 1 + Math.floor(beyondFirst / ENTRIES_PER_BLOCK);
  const index = beyondFirst % ENTRIES_PER_BLOCK;
  return { block, index, byteOffset: block * BLOCK_BYTES + index * 4 };
}

/** Number of page-number entries in `block`, and where they begin within it. */
export function entriesOf(block: number): { count: number; byteOffsetInBlock: number } {
  return block === 0
    ? { count: ENTRIES_IN_FIRST_BLOCK, byteOffsetInBlock: WAL_INDEX_HEADER_BYTES }
    : { count: ENTRIES_PER_BLOCK, byteOffsetInBlock: 0 };
}

/** First hash slot to probe for a page; further ones follow, mod 8,192. */
export function hashSlot(pageNumber: number): number {
  return Math.imul(pageNumber, 383) & (HASH_SLOTS - 1);
}
