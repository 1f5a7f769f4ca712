import type { Epoch, Offset } from "../event/positions.ts";

/** Where the pages of 64 MiB of a database are. */
export interface TableBlock {
  /** Of 256 KiB of the database each, the last one of a database shorter; undefined: nothing but zeros. */
  readonly extents: readonly (Uint8Array | undefined)[];
  /** In order: a later one wins over an earlier one, and over the extent. */
  readonly patches: readonly TablePatch[];
}

export interface TablePatch {
  readonly id: Uint8Array;
  /** Page numbers in the order in which they lie in the blob; 0 for a page that does not count any more. At most 64. */
  readonly pages: readonly number[];
}

export interface ManifestDatabase {
  readonly name: string;
  readonly pageSize: number;
  readonly sizePages: number;
  /** Rolling checksum over all pages. */
  readonly checksum: bigint;
  /** Offset of its last commit. */
  readonly offset: Offset;
  /** Ids of its table blocks, in order. */
  readonly tables: readonly Uint8Array[];
}

export interface ManifestTree {
  readonly name: string;
  /** Ids of the lists of its entries, in order. */
  readonly lists: readonly Uint8Array[];
  /** Entries. */
  readonly count: number;
  /** Of the files, every name of one counted. */
  readonly bytes: number;
}

/** A full image of the set at an offset. */
export interface BaseManifest {
  readonly offset: Offset;
  /** Of the event at `offset`. */
  readonly timeMs: number;
  readonly epoch: Epoch;
  readonly logId: string;
  /** SHA-256 of the record at `offset`. */
  readonly hash: Uint8Array;
  readonly checksumSeed: bigint;
  readonly databases: readonly ManifestDatabase[];
  readonly trees: readonly ManifestTree[];
  /** Stored for this base because no earlier one had it. */
  readonly bytesNew: number;
  /** Of databases and files, as they are on disk. */
  readonly bytesAll: number;
  /** When it was made; ms since 1970. */
  readonly createdMs: number;
  /** Program, version and host, for people. */
  readonly createdBy: string;
}

/** A base by its name. */
export interface BaseInfo {
  /** `bases/<offset>-<uuid>`. */
  readonly name: string;
  readonly uuid: string;
  readonly offset: Offset;
  /** Of the manifest, as stored. */
  readonly bytes: number;
}

/** That a base was read back from this repository and found right. */
export interface VerifiedNote {
  /** UUID of the base. */
  readonly base: string;
  readonly atMs: number;
  readonly how: "sample" | "full";
  readonly host: string;
}

export interface BaseStore {
  /** By offset; those that are marked for deletion, as of the last refresh of the blobs, are left out. */
  list(signal: AbortSignal): Promise<readonly BaseInfo[]>;
  /** @throws OBJECT_MISSING, OBJECT_CORRUPT, REPOSITORY_VERSION */
  read(base: BaseInfo, signal: AbortSignal): Promise<BaseManifest>;
  /** Durable when it resolves. All blobs that it names are finished. */
  write(manifest: BaseManifest, signal: AbortSignal): Promise<BaseInfo>;
  markVerified(note: VerifiedNote, signal: AbortSignal): Promise<void>;
  /** Of each base that was verified (by its UUID) the newest note. */
  verified(signal: AbortSignal): Promise<ReadonlyMap<string, VerifiedNote>>;
}
