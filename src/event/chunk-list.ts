import type { FileChunk, FilePut } from "./kinds.ts";
import { type ByteString, byteString } from "./tree-path.ts";

/** Bytes of an entry of a chunk list: the name of the content (SHA-256, or HMAC-SHA-256 with a key), then its length (u32, big-endian). */
export const CHUNK_ENTRY_BYTES = 36;
export const CONTENT_ID_BYTES = 32;

/** A piece of a file's content, under the name that tree/content-id.ts gives it. */
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

/** Under which name the content of a record is referred to. */
export function contentName(body: FileChunk | FilePut): ByteString {
  return byteString(body.kind === "file.chunk" ? body.id : body.chunks.subarray(0, CONTENT_ID_BYTES));
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
