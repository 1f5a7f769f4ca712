import { type ByteString, byteString } from "./tree-path.ts";

/** Bytes of an entry of a chunk list: SHA-256 of the content, then its length (u32, big-endian). */
export const CHUNK_ENTRY_BYTES = 36;
export const CONTENT_ID_BYTES = 32;

/** A piece of a file's content, named by the SHA-256 of its bytes. */
export interface Chunk {
  /** One character per byte: usable as a key. */
  readonly id: ByteString;
  readonly size: number;
}

export function chunkCount(list: Uint8Array): number {
  return list.length / CHUNK_ENTRY_BYTES;
}

export function encodeChunks(chunks: readonly Chunk[]): Uint8Array {
  const list = Buffer.alloc(chunks.length * CHUNK_ENTRY_BYTES);
  chunks.forEach(({ id, size }, index) => {
    list.write(id, index * CHUNK_ENTRY_BYTES, "latin1");
    list.writeUInt32BE(size, index * CHUNK_ENTRY_BYTES + CONTENT_ID_BYTES);
  });
  return list;
}

/** Their lengths only. */
export function* chunkSizes(list: Uint8Array): Generator<number> {
  const view = new DataView(list.buffer, list.byteOffset, list.length);
  for (let at = CONTENT_ID_BYTES; at < list.length; at += CHUNK_ENTRY_BYTES) yield view.getUint32(at);
}

/** The chunks in the order of the content. */
export function* chunksOf(list: Uint8Array): Generator<Chunk> {
  const view = new DataView(list.buffer, list.byteOffset, list.length);
  for (let at = 0; at < list.length; at += CHUNK_ENTRY_BYTES) {
    yield { id: byteString(list.subarray(at, at + CONTENT_ID_BYTES)), size: view.getUint32(at + CONTENT_ID_BYTES) };
  }
}
