import fs from "node:fs";
import path from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import type { TreePath } from "../../event/tree-path.ts";
import { SafeWalk } from "../../replica/files/safe-walk.ts";
import { standbyPath } from "../../replica/files/standby-path.ts";
import type { StandbyPaths } from "../../replica/standby-paths.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { makeDirectory } from "../../runtime/durable-directory.ts";
import { errnoOf, hasCode } from "../../runtime/errors.ts";
import { applyMetadata } from "../../tree/metadata.ts";
import type { FileEntry, TreeIndex } from "../../tree/tree-index.ts";
import type { FormerTree } from "./former-tree.ts";

const PLACES_PER_TURN = 128;
const IN_THE_WAY: readonly string[] = ["EISDIR", "ENOTDIR", "ENOTEMPTY", "EEXIST"];

export interface MoveTreeOptions {
  readonly paths: StandbyPaths;
  /** Places that are not as the log says; undefined: it is not known which. */
  readonly differing: ReadonlySet<TreePath> | undefined;
}

/**
 * Moves the files of a tree that are as the log says to the standby's place, by their names, or, to another file system, as
 * copies. What is not moved the log must give, so nothing here need be undone after a crash.
 */
export async function moveTree(
  tree: FormerTree,
  index: TreeIndex,
  { paths, differing }: MoveTreeOptions,
): Promise<void> {
  const isRight = (entry: FileEntry): boolean =>
    differing ? !differing.has(entry.path) : tree.compare(entry) === "asKnown";
  using mover = new Mover(tree, paths);
  let places = 0;
  for (const entry of index.entries(tree.name)) {
    if (entry.kind === "dir") mover.makeDirectory(entry.path);
    if (entry.kind === "file" && isRight(entry)) mover.moveFile(entry);
    places += 1;
    if (places % PLACES_PER_TURN === 0) await nextTurn();
  }
}

class Mover implements Disposable {
  readonly #tree: FormerTree;
  readonly #walk: SafeWalk;
  readonly #staged: string;
  /** Copies by the number of the file on the other file system: names of one file stay that. */
  readonly #copies = new Map<bigint, TreePath>();

  constructor(tree: FormerTree, paths: StandbyPaths) {
    this.#tree = tree;
    makeDirectory(path.join(paths.root, path.dirname(tree.name)));
    this.#walk = new SafeWalk(paths.root);
    this.#staged = path.join(paths.stage, "rejoin");
  }

  makeDirectory(place: TreePath): void {
    try {
      fs.mkdirSync(this.#walk.place(standbyPath(this.#tree.name, place)), { mode: 0o700 });
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
    }
  }

  moveFile(entry: FileEntry): void {
    const to = standbyPath(this.#tree.name, entry.path);
    const stat = this.#tree.stat(entry.path);
    const twin = stat && this.#copies.get(stat.ino);
    fs.rmSync(this.#staged, { force: true });
    if (twin !== undefined) {
      fs.linkSync(this.#walk.place(twin), this.#staged);
      return void this.#place(to);
    }
    const isCopy = this.#take(this.#tree.walk.place(this.#tree.at(entry.path)));
    applyMetadata(this.#staged, entry.metadata);
    if (!this.#place(to)) return;
    if (isCopy && stat && stat.nlink > 1n) this.#copies.set(stat.ino, to);
    crashPoint("rejoin: file moved");
  }

  [Symbol.dispose](): void {
    this.#walk[Symbol.dispose]();
  }

  /** False when something else stands on the way: the log gives it then. */
  #place(to: TreePath): boolean {
    try {
      fs.renameSync(this.#staged, this.#walk.place(to));
      return true;
    } catch (error) {
      if (hasCode(error, "PATH_UNSAFE") || IN_THE_WAY.includes(errnoOf(error) ?? "")) return false;
      throw error;
    }
  }

  #take(from: Buffer): boolean {
    try {
      fs.renameSync(from, this.#staged);
      return false;
    } catch (error) {
      if (errnoOf(error) !== "EXDEV") throw error;
      fs.copyFileSync(from, this.#staged);
      return true;
    }
  }
}
