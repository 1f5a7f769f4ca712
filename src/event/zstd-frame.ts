import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";

import { giveBack } from "../runtime/give-back.ts";
import { RecordProblem } from "./record-error.ts";

/** Output is collected in pieces of this size, so that a declared length costs no memory before the bytes are there. */
const MAX_CHUNK_BYTES = 1024 * 1024;
/** 8 MiB: what every zstd decoder must support. Without a limit a frame may claim a window of 128 MiB. */
const MAX_WINDOW_LOG = 23;

export interface CompressOptions {
  readonly level: number;
  /** Repetitions are found as far back as a decoder can look, and not only as far as the level looks. */
  readonly far?: boolean;
  /** Bytes; otherwise it is not worth a decompression. */
  readonly leastSaved?: number;
}

/** One zstd frame; undefined when it is not smaller. */
export function compressFrame(
  raw: Uint8Array,
  { level, far = false, leastSaved = 0 }: CompressOptions,
): Uint8Array | undefined {
  const packed = zstdCompressSync(raw, {
    chunkSize: Math.max(64, Math.min(raw.length, MAX_CHUNK_BYTES)),
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      ...(far ? FAR : {}),
    },
  });
  if (packed.length < raw.length - leastSaved) return packed;
  giveBack(packed.buffer);
  return undefined;
}

const FAR: Readonly<Record<number, number>> = {
  [constants.ZSTD_c_windowLog]: MAX_WINDOW_LOG,
  [constants.ZSTD_c_enableLongDistanceMatching]: 1,
};

/** Exactly `rawBytes`, from a frame that fills `stored`. @throws RecordProblem */
export function decompressFrame(stored: Uint8Array, rawBytes: number): Uint8Array {
  const { buffer: raw, engine } = unzip(stored, rawBytes);
  if (raw.length !== rawBytes) throw new RecordProblem(`${raw.length} bytes decompressed, ${rawBytes} are declared`);
  // zlib stops at the end of the frame; what hides behind it would be read by some decoders and not by others.
  const behind = stored.length - engine.bytesWritten;
  if (behind !== 0) throw new RecordProblem(`${behind} bytes follow the compressed body`);
  return raw;
}

/** Least that is decompressed of a frame: some blocks of zstd, each of which has at most 128 KiB. */
const LEAST_TAKEN_BYTES = 64 * 1024;

/**
 * `atLeast` bytes from the beginning of a frame, and perhaps more. What comes behind them in the frame is not looked at.
 *
 * @throws RecordProblem
 */
export function decompressStart(stored: Uint8Array, rawBytes: number, atLeast: number): Uint8Array {
  const share = Math.ceil((stored.length * atLeast * 1.25) / rawBytes);
  for (let taken = Math.max(LEAST_TAKEN_BYTES, share); taken < stored.length; taken *= 2) {
    const { buffer: raw } = unzip(stored.subarray(0, taken), rawBytes, true);
    if (raw.length >= atLeast) return raw;
    giveBack(raw.buffer);
  }
  return decompressFrame(stored, rawBytes);
}

/** `cut`: `stored` may end before the frame does. */
function unzip(stored: Uint8Array, rawBytes: number, cut = false): Unzipped {
  try {
    const result: unknown = zstdDecompressSync(stored, {
      ...(cut ? { finishFlush: constants.ZSTD_e_continue } : {}),
      // One byte of room more than needed, or a second piece is allocated to find out that there is nothing more.
      chunkSize: Math.max(64, Math.min(rawBytes + 1, MAX_CHUNK_BYTES)),
      maxOutputLength: Math.max(1, rawBytes),
      params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG },
      info: true,
    });
    return result as Unzipped;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new RecordProblem(`the body cannot be decompressed to ${rawBytes} bytes: ${message}`, { cause: error });
  }
}

/** What zlib returns with `info`; `bytesWritten` is how much of the input it took. */
interface Unzipped {
  readonly buffer: Uint8Array;
  readonly engine: { readonly bytesWritten: number };
}
