/**
 * Content-defined chunking: a cut depends on the bytes just before it, so an insertion moves the cuts near it and no other.
 * FastCDC (Xia et al., USENIX ATC 2016) with normalised chunking: a gear hash, a strict mask before the average size and a
 * lax one after it. Where a log of the past is cut must never change, or nothing would be found again: the table
 * comes from a fixed seed.
 *
 * The largest chunk fits into one record beside its header.
 */
export const MIN_CHUNK_BYTES = 64 * 1024;
const AVERAGE_CHUNK_BYTES = 256 * 1024;
export const MAX_CHUNK_BYTES = 448 * 1024;

/** The average is 2^18: two bits more before it, two less after it. Of the high bits, which more of the bytes before reach. */
const STRICT_MASK = 0xfffff000 | 0;
const LAX_MASK = 0xffff0000 | 0;

const GEAR = gearTable(0x7469_6465);

/** 256 numbers of 32 bits by SplitMix32. */
function gearTable(seed: number): Int32Array {
  const table = new Int32Array(256);
  let state = seed;
  for (let i = 0; i < table.length; i += 1) {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    table[i] = z ^ (z >>> 15);
  }
  return table;
}

/**
 * Length of the chunk that begins at `from`. What ends at `to` must be the end of the content, or at least
 * MAX_CHUNK_BYTES away: the cut does not depend on how the content was read.
 */
export function chunkLength(data: Uint8Array, from: number, to: number): number {
  const available = to - from;
  if (available <= MIN_CHUNK_BYTES) return available;
  const average = from + Math.min(available, AVERAGE_CHUNK_BYTES);
  const last = from + Math.min(available, MAX_CHUNK_BYTES);
  let hash = 0;
  let at = from + MIN_CHUNK_BYTES;
  for (; at < average; at += 1) {
    hash = ((hash << 1) + (GEAR[data[at] as number] as number)) | 0;
    if ((hash & STRICT_MASK) === 0) return at + 1 - from;
  }
  for (; at < last; at += 1) {
    hash = ((hash << 1) + (GEAR[data[at] as number] as number)) | 0;
    if ((hash & LAX_MASK) === 0) return at + 1 - from;
  }
  return last - from;
}
