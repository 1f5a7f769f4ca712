/** Smaller ones are worth nothing, and may be Node's pool, which many buffers share. */
const MIN_BYTES = 2 * Math.max(Buffer.poolSize, 64 * 1024);

/**
 * Frees the memory of a large buffer that its owner has done with. V8 lets up to 64 MB of dead buffers gather in each
 * thread before it collects them; a stream of records would keep as much for nothing.
 */
export function giveBack(buffer: ArrayBufferLike): void {
  if (isLarge(buffer) && !buffer.detached) buffer.transfer(0);
}

/** How many of those that lie in one buffer still need it. */
const shares = new WeakMap<ArrayBufferLike, number>();

/** The memory of this buffer goes when so many that lie in it were given back by `giveBackShare`. */
export function shareOut(buffer: ArrayBufferLike, count: number): void {
  shares.set(buffer, count);
}

/** False when it was not shared out. */
export function giveBackShare({ buffer }: Uint8Array): boolean {
  const count = shares.get(buffer);
  if (count === undefined) return false;
  shares.set(buffer, count - 1);
  if (count === 1) giveBack(buffer);
  return true;
}

/** Whether so many are all that still need this buffer: then it is theirs to hand on. False when it was not shared out. */
export function takeShares(buffer: ArrayBufferLike, count: number): boolean {
  return shares.get(buffer) === count && shares.delete(buffer);
}

/** Whether it has a large buffer of its own, which can be handed to a thread. */
export function ownsLargeBuffer({ buffer, byteLength }: Uint8Array): boolean {
  return byteLength === buffer.byteLength && isLarge(buffer);
}

export function isLarge(buffer: ArrayBufferLike): buffer is ArrayBuffer {
  return buffer instanceof ArrayBuffer && buffer.byteLength >= MIN_BYTES;
}
