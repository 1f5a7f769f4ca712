/**
 * The write-ahead log file, https://www.sqlite.org/walformat.html and https://www.sqlite.org/fileformat2.html#walformat.
 * Pure: bytes in, values out.
 */

export const WAL_HEADER_BYTES = 32;
export const FRAME_HEADER_BYTES = 24;
/** Magic with checksums over little-endian words; the lowest bit set means big-endian words. */
const WAL_MAGIC = 0x377f0682;
const WAL_FORMAT_VERSION = 3_007_000;

/** Running checksum: two u32. */
export interface Checksum {
  readonly c1: number;
  readonly c2: number;
}

export const CHECKSUM_START: Checksum = { c1: 0, c2: 0 };

export interface WalHeader {
  /** Whether checksums are over big-endian words (the machine that made the WAL was big-endian). */
  readonly bigEndianChecksums: boolean;
  readonly pageSize: number;
  readonly checkpointSequence: number;
  readonly salt1: number;
  readonly salt2: number;
  /** Checksum of the header's first 24 bytes, where the first frame's checksum goes on. */
  readonly checksum: Checksum;
}

export interface FrameHeader {
  readonly pageNumber: number;
  /** Database size in pages after the commit for the last frame of a transaction, 0 for the others. */
  readonly commitSizePages: number;
  readonly salt1: number;
  readonly salt2: number;
  readonly checksum: Checksum;
}

export function isPageSize(value: number): boolean {
  return value >= 512 && value <= 65_536 && (value & (value - 1)) === 0;
}

/** Byte position of frame `frame` (1-based) in the WAL. */
export function frameByteOffset(frame: number, pageSize: number): number {
  return WAL_HEADER_BYTES + (frame - 1) * (FRAME_HEADER_BYTES + pageSize);
}

const hostIsLittleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/**
 * SQLite's cumulative checksum over `byteLength` bytes (a multiple of 8) at `byteOffset`.
 * Over an aligned Int32Array it runs at memory speed, which is why callers keep their buffers 4-byte aligned.
 */
export function walChecksum(
  data: Uint8Array,
  options: { byteOffset: number; byteLength: number; bigEndian: boolean; start: Checksum },
): Checksum {
  const { byteOffset, byteLength, bigEndian, start } = options;
  let c1 = start.c1 | 0;
  let c2 = start.c2 | 0;
  const absolute = data.byteOffset + byteOffset;
  if (absolute % 4 === 0 && bigEndian !== hostIsLittleEndian) {
    const words = new Int32Array(data.buffer, absolute, byteLength >> 2);
    for (let i = 0; i < words.length; i += 2) {
      c1 = (c1 + (words[i] as number) + c2) | 0;
      c2 = (c2 + (words[i + 1] as number) + c1) | 0;
    }
  } else {
    const view = new DataView(data.buffer, absolute, byteLength);
    for (let at = 0; at < byteLength; at += 8) {
      c1 = (c1 + view.getInt32(at, !bigEndian) + c2) | 0;
      c2 = (c2 + view.getInt32(at + 4, !bigEndian) + c1) | 0;
    }
  }
  return { c1: c1 >>> 0, c2: c2 >>> 0 };
}

/** Undefined when the bytes are not a valid WAL header: SQLite itself then treats the WAL as empty. */
export function decodeWalHeader(data: Uint8Array): WalHeader | undefined {
  if (data.length < WAL_HEADER_BYTES) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, WAL_HEADER_BYTES);
  const magic = view.getUint32(0);
  const pageSize = view.getUint32(8);
  if ((magic & ~1) >>> 0 !== WAL_MAGIC || view.getUint32(4) !== WAL_FORMAT_VERSION || !isPageSize(pageSize)) {
    return undefined;
  }
  const bigEndianChecksums = (magic & 1) === 1;
  const checksum = walChecksum(data, {
    byteOffset: 0,
    byteLength: 24,
    bigEndian: bigEndianChecksums,
    start: CHECKSUM_START,
  });
  if (checksum.c1 !== view.getUint32(24) || checksum.c2 !== view.getUint32(28)) return undefined;
  return {
    bigEndianChecksums,
    pageSize,
    checkpointSequence: view.getUint32(12),
    salt1: view.getUint32(16),
    salt2: view.getUint32(20),
    checksum,
  };
}

/** Encodes a header with the host's own byte order for checksums, as SQLite does. */
export function encodeWalHeader(fields: {
  pageSize: number;
  checkpointSequence: number;
  salt1: number;
  salt2: number;
}): { bytes: Uint8Array; checksum: Checksum } {
  const bytes = new Uint8Array(WAL_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, WAL_MAGIC | (hostIsLittleEndian ? 0 : 1));
  view.setUint32(4, WAL_FORMAT_VERSION);
  view.setUint32(8, fields.pageSize);
  view.setUint32(12, fields.checkpointSequence);
  view.setUint32(16, fields.salt1);
  view.setUint32(20, fields.salt2);
  const checksum = walChecksum(bytes, {
    byteOffset: 0,
    byteLength: 24,
    bigEndian: !hostIsLittleEndian,
    start: CHECKSUM_START,
  });
  view.setUint32(24, checksum.c1);
  view.setUint32(28, checksum.c2);
  return { bytes, checksum };
}

export function decodeFrameHeader(data: Uint8Array, byteOffset: number): FrameHeader {
  const view = new DataView(data.buffer, data.byteOffset + byteOffset, FRAME_HEADER_BYTES);
  return {
    pageNumber: view.getUint32(0),
    commitSizePages: view.getUint32(4),
    salt1: view.getUint32(8),
    salt2: view.getUint32(12),
    checksum: { c1: view.getUint32(16), c2: view.getUint32(20) },
  };
}

/** Checksum after a frame: its header's first 8 bytes, then the page. `frame` holds header and page. */
export function frameChecksum(
  frame: Uint8Array,
  options: { byteOffset: number; pageSize: number; bigEndian: boolean; start: Checksum },
): Checksum {
  const { byteOffset, pageSize, bigEndian, start } = options;
  const afterHeader = walChecksum(frame, { byteOffset, byteLength: 8, bigEndian, start });
  return walChecksum(frame, {
    byteOffset: byteOffset + FRAME_HEADER_BYTES,
    byteLength: pageSize,
    bigEndian,
    start: afterHeader,
  });
}

/** Reads frames that stand one behind the other, without making an object for each. */
export class FrameRun {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #words: Int32Array | undefined;
  readonly #bigEndian: boolean;
  /** Running checksum after the frames added so far. */
  c1: number;
  c2: number;

  constructor(bytes: Uint8Array, options: { readonly bigEndian: boolean; readonly start: Checksum }) {
    const { bigEndian, start } = options;
    this.#bytes = bytes;
    this.#bigEndian = bigEndian;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const native = bigEndian !== hostIsLittleEndian && bytes.byteOffset % 4 === 0;
    this.#words = native ? new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2) : undefined;
    this.c1 = start.c1;
    this.c2 = start.c2;
  }

  pageNumber(byteOffset: number): number {
    return this.#view.getUint32(byteOffset);
  }

  commitSizePages(byteOffset: number): number {
    return this.#view.getUint32(byteOffset + 4);
  }

  hasSalts(byteOffset: number, salt1: number, salt2: number): boolean {
    return this.#view.getUint32(byteOffset + 8) === salt1 && this.#view.getUint32(byteOffset + 12) === salt2;
  }

  /** Adds the frame to the running checksum; whether the frame says the same. */
  addChecksum(byteOffset: number, pageSize: number): boolean {
    const words = this.#words;
    if (words && byteOffset % 4 === 0) {
      const at = byteOffset >> 2;
      this.#add(words, at, at + 2);
      this.#add(words, at + FRAME_HEADER_BYTES / 4, at + (FRAME_HEADER_BYTES + pageSize) / 4);
    } else {
      const start = { c1: this.c1, c2: this.c2 };
      const { c1, c2 } = frameChecksum(this.#bytes, { byteOffset, pageSize, bigEndian: this.#bigEndian, start });
      this.c1 = c1;
      this.c2 = c2;
    }
    return this.#view.getUint32(byteOffset + 16) === this.c1 && this.#view.getUint32(byteOffset + 20) === this.c2;
  }

  #add(words: Int32Array, from: number, to: number): void {
    let c1 = this.c1 | 0;
    let c2 = this.c2 | 0;
    for (let i = from; i < to; i += 2) {
      c1 = (c1 + (words[i] as number) + c2) | 0;
      c2 = (c2 + (words[i + 1] as number) + c1) | 0;
    }
    this.c1 = c1 >>> 0;
    this.c2 = c2 >>> 0;
  }
}

/**
 * Writes frame header and page into `target` at `byteOffset` and returns the running checksum after it.
 * Uses the host's byte order for checksums, so only for a WAL whose header was made on this kind of host.
 */
export function encodeFrame(
  target: Uint8Array,
  byteOffset: number,
  frame: {
    pageNumber: number;
    commitSizePages: number;
    salt1: number;
    salt2: number;
    page: Uint8Array;
    start: Checksum;
    bigEndian: boolean;
  },
): Checksum {
  const view = new DataView(target.buffer, target.byteOffset + byteOffset, FRAME_HEADER_BYTES);
  view.setUint32(0, frame.pageNumber);
  view.setUint32(4, frame.commitSizePages);
  view.setUint32(8, frame.salt1);
  view.setUint32(12, frame.salt2);
  target.set(frame.page, byteOffset + FRAME_HEADER_BYTES);
  const checksum = frameChecksum(target, {
    byteOffset,
    pageSize: frame.page.length,
    bigEndian: frame.bigEndian,
    start: frame.start,
  });
  view.setUint32(16, checksum.c1);
  view.setUint32(20, checksum.c2);
  return checksum;
}
