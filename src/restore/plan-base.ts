import type { Offset } from "../event/positions.ts";
import type { TreeEntry } from "../tree/tree-index.ts";

/** A database as a base of a repository holds it. */
export interface BaseDatabase {
  readonly name: string;
  readonly pageSize: number;
  readonly sizePages: number;
  readonly checksum: bigint;
  /** Names of the blobs that tell where its pages are, in the order of the pages. */
  readonly tables: readonly Uint8Array[];
}

/** All of a set at an offset: a plan may begin with it instead of with the log's copies. */
export interface PlanBase {
  readonly offset: Offset;
  readonly timeMs: number;
  readonly databases: readonly BaseDatabase[];
  /** Names of its trees. */
  readonly trees: readonly string[];
  /** The entries of all trees, a directory before what is in it. */
  entries(signal: AbortSignal): AsyncIterable<TreeEntry>;
}

/** Contents by name. */
export interface BlobReader {
  /** In the order of the names, each proved to be what its name says. @throws OBJECT_MISSING, OBJECT_CORRUPT, STORE_UNREACHABLE */
  read(
    ids: Iterable<Uint8Array>,
    signal: AbortSignal,
  ): AsyncIterable<{ readonly id: Uint8Array; readonly data: Uint8Array }>;
}

/** What a repository adds to the events of a history: states to begin with, and contents. */
export interface Archive {
  /** Events up to here are in it, and the contents that came with them. */
  readonly through: Offset;
  readonly blobs: BlobReader;
  /** The newest base at or before `at` from which the history goes on to there without a gap. */
  baseFor(at: Offset, signal: AbortSignal): Promise<PlanBase | undefined>;
}
