/** Smaller ones are worth nothing, and may be Node's pool, which many buffers share. */
const MIN_BYTES = 2 * Math.max(Buffer.poolSize, 64 * 1024);

/**
 * Frees the memory of a large buffer that its owner has done with. V8 lets up to 64 MB of dead buffers gather in each
 * thread before it collects them; a stream of records would keep as much for nothing.
 */
export function giveBack(buffer: ArrayBufferLike): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached && buffer.byteLength >= MIN_BYTES) buffer.transfer(0);
}
