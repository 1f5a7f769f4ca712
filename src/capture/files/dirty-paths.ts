import { type ByteString, joinPath, nameOf, parentPath, type TreePath } from "../../event/tree-path.ts";
import type { Dirty } from "./tree-seam.ts";

/** More names than this of one directory: then it is listed. */
const MAX_NAMES = 10_000;

/** What may have changed in a tree and was not looked at yet. */
export class DirtyPaths {
  #directories = new Map<TreePath, Set<ByteString> | "all">();

  /** Names and whole directories. */
  get count(): number {
    let count = 0;
    for (const names of this.#directories.values()) count += names === "all" ? 1 : names.size;
    return count;
  }

  /** All of a directory. */
  markAll(directory: TreePath): void {
    this.#directories.set(directory, "all");
  }

  mark(directory: TreePath, name: ByteString): void {
    const names = this.#directories.get(directory) ?? new Set<ByteString>();
    if (names === "all" || names.size >= MAX_NAMES) return this.markAll(directory);
    this.#directories.set(directory, names.add(name));
  }

  markPath(path: TreePath): void {
    if (path === "") this.markAll(path);
    else this.mark(parentPath(path), nameOf(path));
  }

  /** Everything marked so far but these; from here on all is clean. */
  take(without: ReadonlySet<TreePath> = new Set()): Dirty {
    const directories = this.#directories;
    this.#directories = new Map();
    const dirty = new Map<TreePath, ReadonlySet<ByteString> | "all">();
    for (const [directory, names] of directories) {
      if (names !== "all") for (const name of names) if (without.has(joinPath(directory, name))) names.delete(name);
      if (names === "all" || names.size > 0) dirty.set(directory, names);
    }
    return dirty;
  }
}
