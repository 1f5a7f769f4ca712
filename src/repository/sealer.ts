import { type OpenedWith, openEnvelope } from "./envelope.ts";

/** What an object, or a blob in a pack, is. Part of what is authenticated. */
export type ObjectKind = BlobType | "pack" | "index" | "segment" | "piece" | "base" | "verified" | "lock" | "expired";

/** chunk: content of files. extent, patch: pages. table: where the pages of 64 MiB of a database are. list: entries of a tree. */
export type BlobType = "chunk" | "extent" | "patch" | "table" | "list";

/** Of an object, bound to what is in it: no object can stand in another's place. */
export interface SealedAs {
  readonly kind: ObjectKind;
  /** Of the object; of a blob its id in hexadecimal, of a piece of a segment `NAME#0`, `NAME#1`, … */
  readonly name: string;
}

/**
 * Turns what is to be stored into the sealed envelope of proto/repository.md and back: compressed, and encrypted when the
 * repository has a key.
 */
export interface RepositorySealer {
  readonly encrypted: boolean;
  /** The result owns its memory. */
  seal(as: SealedAs, raw: Uint8Array): Uint8Array;
  /**
   * With what an envelope is opened, of which the beginning is there: see openEnvelope.
   *
   * @throws RecordProblem and NewerObject (without the object's name, which the caller knows), KEY_MISSING, KEY_WRONG
   */
  opening(as: SealedAs, stored: Uint8Array): Promise<OpenedWith>;
  /** Name of a blob: 32 bytes, SHA-256 of what is in it, or HMAC-SHA-256 under the chunk-name key. */
  blobId(data: Uint8Array): Uint8Array;
}

/** What was sealed, proved to be that and under this name. It may be a view into `stored`. @throws as `opening`, RecordProblem */
export async function openSealed(sealer: RepositorySealer, as: SealedAs, stored: Uint8Array): Promise<Uint8Array> {
  return openEnvelope(as, stored, await sealer.opening(as, stored));
}
