import { type ByteString, joinPath, nameOf, parentPath, type TreePath } from "../../event/tree-path.ts";
import { isThere } from "./lost-files.ts";
import type { Dirty } from "./tree-seam.ts";

/** More names than this of one directory: then it is listed. */
const MAX_NAMES = 10_000;

/** What was announced of one name since it was looked at. */
export interface Announced {
  readonly path: TreePath;
  renames: number;
  changes: number;
  /** Of its last rename. */
  generation: number;
  /** In which it was announced first. */
  readonly born: number;
  /** It was changed since it came. */
  isChanged: boolean;
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
    const one = this.#announced(names, directory, name);
    if (kind === "rename") {
      one.renames += 1;
      one.generation = this.#generation;
      one.isChanged = false;
      if (this.#last) this.#last.next = one;
    } else {
      one.changes += 1;
      one.isChanged = true;
    }
    one.next = undefined;
    this.#last = kind === "rename" ? one : undefined;
    this.#directories.set(directory, names.set(name, one));
  }

  /** It was found in a directory that is watched from now on. */
  markFound(directory: TreePath, name: ByteString): void {
    this.mark(directory, name, "rename");
    this.#last = undefined;
  }

  #announced(names: Names, directory: TreePath, name: ByteString): Announced {
    const path = joinPath(directory, name);
    const [none, born] = [
      { renames: 0, changes: 0, generation: 0, isChanged: false, next: undefined },
      this.#generation,
    ];
    return names.get(name) ?? { path, born, ...none };
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

  /** What was announced of this path since it was taken; "all": that is not known. */
  find(path: TreePath): Announced | "all" | undefined {
    const names = this.#directories.get(parentPath(path));
    return names === "all" ? names : names?.get(nameOf(path));
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

  /** Directories of which it is not known what was announced in them. */
  get vague(): readonly TreePath[] {
    return [...this.#directories].filter(([, names]) => names === "all").map(([directory]) => directory);
  }

  /**
   * What is gone, and may have been more before than the log knows. Which of it was lost can be told when all is announced
   * that has happened until now: see `isLost`.
   */
  gone(root: string, { inLog, captured }: { inLog: ReadonlySet<TreePath>; captured: ReadonlySet<TreePath> }): Gone[] {
    const gone: Gone[] = [];
    for (const names of this.#directories.values()) {
      if (names === "all") continue;
      for (const one of names.values()) {
        const { path } = one;
        if (isThere(root, path)) continue;
        gone.push({ path, announced: one, mayBeMoved: !inLog.has(path), wasCaptured: captured.has(path) });
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
  /** What was there last when it was looked at is in the log. */
  readonly wasCaptured: boolean;
}
