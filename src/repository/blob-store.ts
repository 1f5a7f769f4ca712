import type { BlobUse } from "./blob-use.ts";
import type { PackedBlob } from "./pack.ts";
import type { PlacedBlob } from "./placed-blob.ts";
import type { BlobType } from "./sealer.ts";

/** What was stored since the last `finish`; blobs that were there already are not counted. */
export interface BlobsWritten {
  readonly blobs: number;
  /** As stored. */
  readonly bytes: number;
}

export interface BlobFigures {
  readonly packs: number;
  readonly blobs: number;
  /** Of the packs. */
  readonly bytes: number;
}

/** Names of blobs, as far ahead as one likes. */
export type BlobNames = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** A blob, or where it lies. */
export type UnprovedBlob = Uint8Array | PlacedBlob;

/** Contents by name, many of them in a pack. Names are 32 bytes, see RepositorySealer.blobId. */
export interface BlobStore {
  /**
   * Whether the blob is in the repository and may be referred to: not when all that holds it is marked for deletion.
   * As of the last `refresh`, and of what writers of this process finished since.
   */
  has(id: Uint8Array): boolean;

  /** Reads which packs others stored, marked or removed meanwhile. `openRepository` has done it once. */
  refresh(signal: AbortSignal): Promise<void>;

  /**
   * Looks for packs that no index object names: what is in them is read from then on, and not referred to. Reading does so
   * by itself when a blob is missing.
   */
  search(signal: AbortSignal): Promise<void>;

  /**
   * Proved to be what was stored under this name. When one copy is damaged or gone another is taken.
   *
   * @throws OBJECT_MISSING (the blob, or the pack that holds it), OBJECT_CORRUPT (names the pack), STORE_UNREACHABLE
   */
  read(id: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;

  /**
   * As `read`, in the order of the names, which are taken ahead of what is handed out as far as a bound of bytes allows.
   * Neighbours in a pack come with one request.
   */
  readMany(ids: BlobNames, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void>;

  /**
   * As `readMany`, for whoever proves what comes with checksums of its own, and asks again with `readMany` when they say
   * otherwise: seals that only tell damage are not computed, and of what can be read in place only the place is told.
   * Authentication with a key is never left out.
   */
  readUnproved(ids: BlobNames, signal: AbortSignal): AsyncGenerator<UnprovedBlob, void, void>;

  /** `signal` ends what `add` sends. Writers do not disturb each other, in one process or in several. */
  writer(signal: AbortSignal): BlobWriter;

  figures(): BlobFigures;

  /** Names of objects with this prefix that are marked for deletion; as of the last `refresh`. */
  marked(prefix: string): ReadonlySet<string>;

  /** For whoever clears away: to learn what packs are needed for. One at a time. */
  use(): BlobUse;
}

/** Gathers blobs into packs. What was not finished when it is disposed of is lost, or nobody's. */
export interface BlobWriter extends AsyncDisposable {
  /**
   * Resolves with the name. Waits while too much is on its way. A blob that is there is not stored again. The memory of
   * `data` is the caller's again when it resolves.
   *
   * `id`: a name that others gave to the content already (that of a chunk in the log); without it the sealer's.
   */
  add(type: BlobType, data: Uint8Array, id?: Uint8Array): Promise<Uint8Array>;

  /**
   * Packs and their listings are durable when it resolves: only then may anything refer to the blobs. The writer can be
   * used again. After an error it may be called again: nothing that was added is lost, but for REPOSITORY_CHANGED: then a
   * blob that was there when it was added may be on its way out; begin again with another writer.
   */
  finish(signal: AbortSignal): Promise<BlobsWritten>;

  /** A blob as it lies in a pack: it comes into another pack, whether it is there or not. */
  copy(blob: PackedBlob, sealed: Uint8Array): Promise<void>;
}
