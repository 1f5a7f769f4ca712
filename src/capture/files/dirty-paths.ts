import fs from "node:fs";

import { type ByteString, fsPath, joinPath, nameOf, parentPath, type TreePath } from "../../event/tree-path.ts";
import type { Dirty } from "./tree-seam.ts";

/** More names than this of one directory: then it is listed. */
const MAX_NAMES = 10_000;

/** What was announced of one name since it was looked at. */
interface Announced {
  readonly path: TreePath;
  renames: number;
  changes: number;
  /** Of its last rename. */
  generation: number;
  /** What the announcement right behind its last one was about, when that was of a name as well. */
  next: Announced | undefined;
}

type Names = Map<ByteString, Announced>;

/** What may have changed in a tree and was not looked at yet. */
export class DirtyPaths {
  #directories = new Map<TreePath, Names | "all">();
  #last: Announced | undefined;
  #generation = 0;

  /** Names and whole directories. */
  get count(): number {
    let count = 0;
    for (const names of this.#directories.values()) count += names === "all" ? 1 : names.size;
    return count;
  }

  /** All of a directory. */
  markAll(directory: TreePath): void {
    this.#directories.set(directory, "all");
    this.#last = undefined;
  }

  /** `kind` rename: the name came or went. change: what it names is another. */
  mark(directory: TreePath, name: ByteString, kind: "rename" | "change"): void {
    const names = this.#directories.get(directory) ?? new Map<ByteString, Announced>();
    if (names === "all" || names.size >= MAX_NAMES) return this.markAll(directory);
    const one = names.get(name) ?? {
      path: joinPath(directory, name),
      renames: 0,
      changes: 0,
      generation: 0,
      next: undefined,
    };
    if (kind === "rename") {
      one.renames += 1;
      one.generation = this.#generation;
      if (this.#last) this.#last.next = one;
    } else {
      one.changes += 1;
    }
    one.next = undefined;
    this.#last = kind === "rename" ? one : undefined;
    this.#directories.set(directory, names.set(name, one));
  }

  /** What is announced from here on is of the next generation, which this returns. */
  nextGeneration(): number {
    this.#generation += 1;
    return this.#generation;
  }

  markPath(path: TreePath): void {
    if (path === "") this.markAll(path);
    else this.mark(parentPath(path), nameOf(path), "change");
  }

  /** What was announced of this path since it was taken. */
  find(path: TreePath): Announced | undefined {
    const names = this.#directories.get(parentPath(path));
    return names === "all" ? undefined : names?.get(nameOf(path));
  }

  /** Everything marked so far; from here on it is clean. */
  take(): TakenPaths {
    const taken = new TakenPaths(this.#directories);
    this.#directories = new Map();
    return taken;
  }
}

export class TakenPaths {
  readonly #directories: ReadonlyMap<TreePath, Names | "all">;

  constructor(directories: ReadonlyMap<TreePath, Names | "all">) {
    this.#directories = directories;
  }

  without(paths: ReadonlySet<TreePath>): Dirty {
    const dirty = new Map<TreePath, ReadonlySet<ByteString> | "all">();
    for (const [directory, names] of this.#directories) {
      const left =
        names === "all" ? names : new Set([...names.keys()].filter((name) => !paths.has(joinPath(directory, name))));
      if (left === "all" || left.size > 0) dirty.set(directory, left);
    }
    return dirty;
  }

  /**
   * What is gone, and may have been more before than the log knows. Which of it was lost can be told when all is announced
   * that has happened until now: see `isLost`.
   */
  gone(root: string, inLog: ReadonlySet<TreePath>): Gone[] {
    const gone: Gone[] = [];
    for (const names of this.#directories.values()) {
      if (names === "all") continue;
      for (const one of names.values()) {
        if (exists(root, one)) continue;
        gone.push({ path: one.path, announced: one, mayBeMoved: !inLog.has(one.path) });
      }
    }
    return gone;
  }
}

export interface Gone {
  readonly path: TreePath;
  /** What was announced of it before it was looked at. */
  readonly announced: Announced;
  /** The log has no version of it: files that are written beside their place are moved there before it has. */
  readonly mayBeMoved: boolean;
}

/**
 * Whether it was there, or was changed, and went before it could be read. `since`: what was announced of it after it was looked
 * at, everything that happened before the look included. `generation`: losses that were announced before are made good.
 */
export function isLost(
  root: string,
  { announced, mayBeMoved }: Gone,
  { since, generation }: { readonly since: Announced | undefined; readonly generation: number },
): boolean {
  const goes = since && since.renames > 0 ? since : announced;
  // Only its going: what it was before was looked at before, and judged then.
  if (goes === announced && announced.renames + announced.changes <= 1) return false;
  if (goes.generation < generation) return false;
  return !mayBeMoved || !wasMoved(root, goes);
}

function exists(root: string, { path }: Announced): boolean {
  return fs.lstatSync(fsPath(root, path), { throwIfNoEntry: false }) !== undefined;
}

/**
 * Whether it got the next name. A file that was made there, not moved, is empty until it is written to; and where nothing is
 * by now, more than its end was announced: whether that is a loss is its own affair.
 */
function wasMoved(root: string, { next }: Announced): boolean {
  if (!next || next.changes > 0) return false;
  const stat = fs.lstatSync(fsPath(root, next.path), { throwIfNoEntry: false });
  return stat ? stat.isFile() && stat.size > 0 : next.renames > 1;
}

/**
 * Whether the last that happened in this directory, and not before `sinceNs`, was that something went: its time is newer
 * than all that is in it. For one that was just made, in which something may have come and gone before it was watched.
 */
export function hasLost(root: string, directory: TreePath, sinceNs: bigint): boolean {
  const at = fsPath(root, directory);
  const stat = fs.lstatSync(at, { bigint: true, throwIfNoEntry: false });
  if (!stat) return true;
  if (stat.mtimeNs < sinceNs) return false;
  let newestNs = stat.birthtimeNs;
  try {
    for (const name of fs.readdirSync(at, { encoding: "latin1" })) {
      const entry = fs.lstatSync(fsPath(root, joinPath(directory, name)), { bigint: true, throwIfNoEntry: false });
      if (entry && entry.ctimeNs > newestNs) newestNs = entry.ctimeNs;
    }
  } catch {
    return true;
  }
  return stat.mtimeNs > newestNs;
}
