import type { BigIntStats } from "node:fs";

import type { PackedBody } from "../../event/codec.ts";
import type { DirectoryRemove, EventBody, FileRemove } from "../../event/kinds.ts";
import type { Offset } from "../../event/positions.ts";
import type { ByteString, TreePath } from "../../event/tree-path.ts";

/** What may have changed: names in directories, or all of a directory. What is below a directory is not meant. */
export type Dirty = ReadonlyMap<TreePath, ReadonlySet<ByteString> | "all">;

/** Seen to be gone; what it says may have become wrong by the time it is published. */
export type Removal = FileRemove | DirectoryRemove;

export interface Findings {
  /** To be published later (`remove`), when every commit that was made before they were seen is in the log. */
  readonly removals: readonly Removal[];
  /** Changed while they were read, or still being read: paths of files. To be looked at again. */
  readonly unsettled: readonly TreePath[];
  /** There was no time to look at these. */
  readonly late: readonly TreePath[];
  /** Files and links that the log has as they were last; some of them are gone by now. */
  readonly captured: ReadonlySet<TreePath>;
  /** What was held of them could not be sent. */
  readonly missed: readonly TreePath[];
}

export interface Identity {
  readonly dev: bigint;
  readonly ino: bigint;
}

export interface LookOptions {
  readonly signal: AbortSignal;
  /**
   * Called right before a directory is listed, and for each directory that a look meets by its name: from here on changes
   * in it are announced. `identity` is what lstat said. True: they were not until now, so it must be listed, whatever the
   * index says, and every directory below it entered in turn.
   */
  readonly enter: (directory: TreePath, identity: Identity) => boolean;
  /** Descriptors (O_PATH) of files that were there since the last look: those that are deleted by now are sent before they are found to be gone. */
  readonly held?: ReadonlyMap<TreePath, number>;
}

/** What TreeCapture sends through. Chunks and puts may come at any time: a file that is early disturbs nobody. */
export interface FileFeed {
  /** With which content is named; undefined without encryption. */
  readonly nameKey: Uint8Array | undefined;
  /**
   * Waits for room in the log. Resolves with the offsets of the records; they are not acknowledged yet. Calls need not wait
   * for one another: their records come in the order of the calls.
   */
  send(bodies: readonly (EventBody | PackedBody)[]): Promise<readonly Offset[]>;
  /** A number that no put before had, nor one of an earlier agent. */
  nextPut(): number;
}

/**
 * One tree as the log has it, and what differs from it on disk. A scan takes long: `look` and `remove` are called while it
 * runs. Looks and removals come one after the other.
 */
export interface TreeCapture {
  readonly name: string;
  /** Absolute path of the directory or the single file. */
  readonly root: string;
  /**
   * Compares all of the tree with the index and sends the difference.
   * @throws TREE_EMPTIED, TREE_MISSING, MASS_DELETION: nothing more is sent of this tree until a scan succeeds
   */
  scan(options: LookOptions & { readonly progress: (done: number, total: number) => void }): Promise<Findings>;
  /**
   * Looks at these, at each directory named and at whatever is new below them, and sends what changed. Returns at
   * `deadlineMs` (monotonic) at the latest, with the rest as late; a file that is being read then is read on, and
   * the next look at it goes on from there.
   */
  look(dirty: Dirty, options: LookOptions & { readonly deadlineMs: number }): Promise<Findings>;
  /** Whether what stands at a path is captured, or something in it. */
  captures(path: TreePath, stat: BigIntStats): boolean;
  /** Whether anything could be captured at a path, whatever stands there. */
  mayCapture(path: TreePath): boolean;
  /** Where in the tree an absolute path without links leads; undefined: not into it. */
  pathOf(file: ByteString): TreePath | undefined;
  /** Whether a file is being read, behind the look that began it. */
  reads(path: TreePath): boolean;
  /** Sends those removals that are still true, and the times of the directories they were in. */
  remove(removals: readonly Removal[]): Promise<void>;
  /**
   * Everything up to `acknowledged` is in the log for good: what it says is stored in the index when all steps are made, or
   * nothing of it. No step takes long; between them the tree may be looked at.
   */
  storing(acknowledged: Offset): Iterable<void>;
  /** For the status: what the tree holds as far as the log has it. */
  figures(): TreeFigures;
  /** After the last store. */
  close(): void;
}

export interface TreeFigures {
  readonly files: number;
  readonly bytes: number;
  /** Of files that are being read. */
  readonly pendingBytes: number;
  /** Files that did not stand still while they were read. */
  readonly unstableReads: number;
  /** What cannot be captured, or not as it is, for people. */
  readonly problem: string | undefined;
}
