import type { ByteString, TreePath } from "../../event/tree-path.ts";
import type { SelectionPatterns } from "./selection.ts";

/** A file, as SQLite's locks know it. */
export type InodeKey = `${bigint}:${bigint}`;

/** What the thread starts with. */
export interface EarlyReaderOptions {
  /** Real path of the tree. */
  readonly root: string;
  /** What they leave out is not read. */
  readonly patterns: SelectionPatterns;
  /** Names content with it. */
  readonly nameKey: Uint8Array | undefined;
}

/** To the thread: begin to read what is in a directory, go on, or stop. */
export type ToEarlyReader =
  | {
      readonly type: "begin";
      readonly id: number;
      readonly directory: TreePath;
    }
  | { readonly type: "more"; readonly id: number }
  | { readonly type: "end"; readonly id: number }
  /** Not to be opened, as dev:ino. */
  | { readonly type: "own"; readonly inodes: ReadonlySet<InodeKey> };

/** Numbers of each file in `EarlyBatch.stats`. */
export const STAT_FIELDS = ["dev", "ino", "size", "mtimeNs", "ctimeNs", "mode"] as const;

/** From the thread: one answer to each `more`, the files in the order of their names. */
export interface EarlyBatch {
  readonly id: number;
  /** What comes up to this name, and is not here, was not read; undefined: that goes for all of the rest. */
  readonly through: ByteString | undefined;
  readonly names: readonly ByteString[];
  /** STAT_FIELDS of each. */
  readonly stats: BigUint64Array<ArrayBuffer>;
  /** Of each: SHA-256, entry of a chunk list, content. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of those that have some, by their place in `names`. */
  readonly xattrs: ReadonlyMap<number, ReadonlyMap<string, Uint8Array>>;
}
