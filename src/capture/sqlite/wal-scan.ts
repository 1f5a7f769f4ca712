import fs from "node:fs";

import type { WalPosition } from "../../event/kinds.ts";
import type { WalIndexHeader } from "../../format/wal-index.ts";
import {
  decodeFrameHeader,
  decodeWalHeader,
  FrameRun,
  FRAME_HEADER_BYTES,
  frameByteOffset,
  frameChecksum,
  WAL_HEADER_BYTES,
  type Checksum,
} from "../../format/wal.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import type { WalIndexState } from "../../sqlite/live-files.ts";

/** Frames are read in slices of at most about this many bytes. */
const SLICE_BYTES = 4 * 1024 * 1024;
/** Smaller slices are not worth keeping. */
const MIN_KEPT_BYTES = 64 * 1024;
const MAX_KEPT_SLICES = 2;
/** Slices of finished scans: a busy WAL would otherwise make hundreds of megabytes of garbage a second. */
const keptSlices: Uint8Array[] = [];

/** One SQLite commit within a scan; frame numbers are 1-based positions in the WAL. */
export interface ScannedCommit {
  readonly firstFrame: number;
  readonly lastFrame: number;
  readonly sizePages: number;
  readonly checksum: Checksum;
}

/** Committed frames between two looks, verified. */
export interface WalScan {
  readonly salt1: number;
  readonly salt2: number;
  readonly pageSize: number;
  readonly firstFrame: number;
  /** Page number of each frame, from `firstFrame` on. */
  readonly pageNumbers: Uint32Array;
  readonly commits: readonly ScannedCommit[];
  /** The frames themselves when they fit into one slice. */
  readonly slice: Uint8Array | undefined;
  /** Running checksum after each frame, two words a frame, with the one before `firstFrame` first: to read again. */
  readonly checksums: Uint32Array;
  readonly bigEndianChecksums: boolean;
}

/** Where to go on reading under `header`: after `position`, or from the start when the WAL restarted since. */
export function resumePoint(position: WalPosition, header: WalIndexHeader): WalPosition {
  if (position.salt1 === header.salt1 && position.salt2 === header.salt2) return position;
  return { salt1: header.salt1, salt2: header.salt2, frame: 0, checksum1: 0, checksum2: 0 };
}

/**
 * Reads the frames after `position` up to `header.mxFrame` and verifies salts and the cumulative checksum of each.
 * Nothing beyond mxFrame is looked at: such frames were never committed, however valid they look.
 *
 * @throws WAL_GAP when the frames are not the continuation of `position`
 */
export function scanWal(walFd: number, position: WalPosition, header: WalIndexHeader): WalScan {
  const { pageSize, mxFrame } = header;
  const from = resumePoint(position, header);
  if (from.frame > mxFrame) throw gap(`the WAL ends at frame ${mxFrame}, frame ${from.frame} was captured before`);
  const start = from.frame === 0 ? startChecksum(walFd, header) : { c1: from.checksum1, c2: from.checksum2 };
  const check = new FrameCheck(header, { ...from, frames: mxFrame - from.frame, start });
  const frameBytes = FRAME_HEADER_BYTES + pageSize;
  const framesPerSlice = Math.max(1, Math.floor(SLICE_BYTES / frameBytes));
  const memory = sliceMemory(Math.min(framesPerSlice, mxFrame - from.frame) * frameBytes);
  let slice: Uint8Array | undefined;
  for (let first = from.frame + 1; first <= mxFrame; first += framesPerSlice) {
    const count = Math.min(framesPerSlice, mxFrame - first + 1);
    slice = memory.subarray(0, count * frameBytes);
    readInto(walFd, slice, frameByteOffset(first, pageSize));
    check.take(slice, count);
  }
  if (mxFrame - from.frame > framesPerSlice) {
    keep(memory);
    slice = undefined;
  }
  return check.result(slice);
}

/** Verifies frame after frame: salts, and the checksum that runs through all of them. */
class FrameCheck {
  readonly #generation: Generation;
  readonly #firstFrame: number;
  readonly #pageNumbers: Uint32Array;
  readonly #checksums: Uint32Array;
  readonly #commits: ScannedCommit[] = [];
  #checksum: Checksum;
  #frame: number;
  #firstOfCommit: number;

  constructor(generation: Generation, from: { frame: number; frames: number; start: Checksum }) {
    this.#generation = generation;
    this.#frame = from.frame;
    this.#firstFrame = from.frame + 1;
    this.#firstOfCommit = this.#firstFrame;
    this.#pageNumbers = new Uint32Array(from.frames);
    this.#checksums = new Uint32Array(2 * from.frames + 2);
    this.#checksum = from.start;
    this.#checksums.set([from.start.c1, from.start.c2]);
  }

  get commits(): number {
    return this.#commits.length;
  }

  /** The next `count` frames stand at the start of `bytes`. @throws WAL_GAP */
  take(bytes: Uint8Array, count: number): void {
    const { pageSize, bigEndianChecksums: bigEndian } = this.#generation;
    const run = new FrameRun(bytes, { bigEndian, start: this.#checksum });
    for (let i = 0; i < count; i += 1) this.#takeOne(run, i * (FRAME_HEADER_BYTES + pageSize));
    this.#checksum = { c1: run.c1, c2: run.c2 };
  }

  /** The frames at the start of `bytes`, until so many commits are there; all of them if they are not. @throws WAL_GAP */
  takeCommits(bytes: Uint8Array, commits: number): void {
    const { pageSize, bigEndianChecksums: bigEndian } = this.#generation;
    const frameBytes = FRAME_HEADER_BYTES + pageSize;
    const run = new FrameRun(bytes, { bigEndian, start: this.#checksum });
    for (let at = 0; at < bytes.length && this.#commits.length < commits; at += frameBytes) this.#takeOne(run, at);
    this.#checksum = { c1: run.c1, c2: run.c2 };
  }

  #takeOne(run: FrameRun, byteOffset: number): void {
    const { pageSize, salt1, salt2 } = this.#generation;
    const frame = this.#frame + 1;
    if (!run.hasSalts(byteOffset, salt1, salt2)) throw gap(`frame ${frame} has other salts`);
    if (!run.addChecksum(byteOffset, pageSize)) throw gap(`frame ${frame} has a wrong checksum`);
    const index = frame - this.#firstFrame;
    this.#pageNumbers[index] = run.pageNumber(byteOffset);
    this.#checksums[2 * index + 2] = run.c1;
    this.#checksums[2 * index + 3] = run.c2;
    this.#frame = frame;
    const sizePages = run.commitSizePages(byteOffset);
    if (sizePages === 0) return;
    const checksum = { c1: run.c1, c2: run.c2 };
    this.#commits.push({ firstFrame: this.#firstOfCommit, lastFrame: frame, sizePages, checksum });
    this.#firstOfCommit = frame + 1;
  }

  /** `slice` holds all frames, from the first one on; undefined when they did not fit. @throws WAL_GAP */
  result(slice: Uint8Array | undefined): WalScan {
    if (this.#firstOfCommit !== this.#frame + 1) throw gap(`frame ${this.#frame} should end a commit and does not`);
    const { salt1, salt2, pageSize, bigEndianChecksums } = this.#generation;
    return {
      salt1,
      salt2,
      pageSize,
      firstFrame: this.#firstFrame,
      pageNumbers: this.#pageNumbers,
      commits: this.#commits,
      slice,
      checksums: this.#checksums,
      bigEndianChecksums,
    };
  }
}

type Generation = Pick<WalIndexHeader, "salt1" | "salt2" | "pageSize" | "bigEndianChecksums">;

/**
 * The last `commits` commits of a WAL that has restarted since `position` was captured: their frames stand where they
 * stood until the new generation grows over them. The salts say that it restarted once, the caller's count of commits says
 * how many there were, and the checksum chain that the frames in `tail` are the ones.
 *
 * @throws WAL_GAP when they are not all there any more
 */
export function scanTail(
  tail: Uint8Array,
  position: WalPosition,
  { commits, header }: { commits: number; header: WalIndexHeader },
): WalScan {
  if (position.frame === 0 || header.salt1 !== (position.salt1 + 1) >>> 0) {
    throw gap(`the WAL restarted more than once, and ${commits} commits were not captured before`);
  }
  const { salt1, salt2, frame, checksum1: c1, checksum2: c2 } = position;
  const frameBytes = FRAME_HEADER_BYTES + header.pageSize;
  const frames = tail.length / frameBytes;
  const check = new FrameCheck({ ...header, salt1, salt2 }, { frame, frames, start: { c1, c2 } });
  check.takeCommits(tail, commits);
  if (check.commits < commits) throw gap(`${commits} commits before the WAL restarted are out of reach`);
  return check.result(tail);
}

/** The scan and all images out of it were used: its memory may serve the next one. Never needed, only good. */
export function recycle({ slice }: WalScan): void {
  if (slice) keep(new Uint8Array(slice.buffer));
}

function keep(memory: Uint8Array): void {
  if (memory.length >= MIN_KEPT_BYTES && keptSlices.length < MAX_KEPT_SLICES) keptSlices.push(memory);
}

function sliceMemory(byteLength: number): Uint8Array {
  const kept = keptSlices.pop();
  if (kept && kept.length >= byteLength) return kept;
  return new Uint8Array(byteLength < MIN_KEPT_BYTES ? byteLength : Math.max(byteLength, SLICE_BYTES));
}

/**
 * Page image of `frame`: out of the scan's slice, or read and verified again.
 * @throws WAL_GAP when the frame was overwritten since the scan (it was protected by no pin)
 */
export function frameImage(walFd: number, scan: WalScan, frame: number): Uint8Array {
  const { pageSize, checksums } = scan;
  const frameBytes = FRAME_HEADER_BYTES + pageSize;
  const index = frame - scan.firstFrame;
  if (scan.slice) {
    const start = index * frameBytes + FRAME_HEADER_BYTES;
    return scan.slice.subarray(start, start + pageSize);
  }
  const bytes = readExactly(walFd, { byteOffset: frameByteOffset(frame, pageSize), byteLength: frameBytes });
  const checksum = frameChecksum(bytes, {
    byteOffset: 0,
    pageSize,
    bigEndian: scan.bigEndianChecksums,
    start: { c1: checksums[2 * index] ?? 0, c2: checksums[2 * index + 1] ?? 0 },
  });
  if (checksum.c1 !== checksums[2 * index + 2] || checksum.c2 !== checksums[2 * index + 3]) {
    throw gap(`frame ${frame} was overwritten while it was read`);
  }
  return bytes.subarray(FRAME_HEADER_BYTES);
}

/**
 * Position after the frames that are in the database file already: where a copy begins to read the WAL.
 * @throws WAL_GAP when the WAL restarts at this moment
 */
export function positionAtBackfill(walFd: number, state: WalIndexState): WalPosition {
  const { header, checkpoint } = state;
  const frame = checkpoint.backfilledFrames;
  const start = { salt1: header.salt1, salt2: header.salt2, frame, checksum1: 0, checksum2: 0 };
  if (frame === 0) return start;
  const bytes = readExactly(walFd, {
    byteOffset: frameByteOffset(frame, header.pageSize),
    byteLength: FRAME_HEADER_BYTES,
  });
  const decoded = decodeFrameHeader(bytes, 0);
  if (decoded.salt1 !== header.salt1 || decoded.salt2 !== header.salt2) throw gap(`frame ${frame} has other salts`);
  return { ...start, checksum1: decoded.checksum.c1, checksum2: decoded.checksum.c2 };
}

/** Last image of `pageNumber` in frames `afterFrame + 1` to `throughFrame`, or undefined. One pass over the headers. */
export function findLastImage(
  walFd: number,
  pageNumber: number,
  range: { pageSize: number; afterFrame: number; throughFrame: number },
): Uint8Array | undefined {
  const header = new Uint8Array(FRAME_HEADER_BYTES);
  for (let frame = range.throughFrame; frame > range.afterFrame; frame -= 1) {
    const byteOffset = frameByteOffset(frame, range.pageSize);
    fs.readSync(walFd, header, 0, FRAME_HEADER_BYTES, byteOffset);
    if (decodeFrameHeader(header, 0).pageNumber !== pageNumber) continue;
    return readExactly(walFd, { byteOffset: byteOffset + FRAME_HEADER_BYTES, byteLength: range.pageSize });
  }
  return undefined;
}

function startChecksum(walFd: number, header: WalIndexHeader): Checksum {
  if (header.mxFrame === 0) return { c1: 0, c2: 0 };
  const bytes = readExactly(walFd, { byteOffset: 0, byteLength: WAL_HEADER_BYTES });
  const walHeader = decodeWalHeader(bytes);
  if (walHeader?.salt1 !== header.salt1 || walHeader.salt2 !== header.salt2) {
    throw gap("the WAL header is not the one that the wal-index names");
  }
  return walHeader.checksum;
}

function readExactly(fd: number, range: { byteOffset: number; byteLength: number }): Uint8Array {
  const bytes = new Uint8Array(range.byteLength);
  readInto(fd, bytes, range.byteOffset);
  return bytes;
}

function readInto(fd: number, bytes: Uint8Array, byteOffset: number): void {
  const length = fs.readSync(fd, bytes, 0, bytes.length, byteOffset);
  if (length !== bytes.length) throw gap(`the WAL is shorter than its index says (${length} bytes read)`);
}

/** A gap is repaired by the caller; it reaches a user only as the reason of a repair. */
export function gap(evidence: string): TidemarkError {
  return new TidemarkError("WAL_GAP", `commits may have passed unseen: ${evidence}`, {
    hint: "Nothing to do: the difference is read from the database and shipped.",
  });
}
