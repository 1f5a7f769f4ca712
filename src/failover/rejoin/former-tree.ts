import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { listTree } from "../../capture/files/list-tree.ts";
import type { OwnFiles } from "../../capture/files/own-files.ts";
import { Selection } from "../../capture/files/selection.ts";
import type { TreeConfig } from "../../config/config.ts";
import { byteString, bytesOf, pathBelow, type TreePath } from "../../event/tree-path.ts";
import { SafeWalk } from "../../replica/files/safe-walk.ts";
import { TreeReader } from "../../replica/files/tree-reader.ts";
import { errnoOf, TidemarkError } from "../../runtime/errors.ts";
import { findOpenFile, shownProcess } from "../../runtime/open-by-process.ts";
import { readUpTo } from "../../sqlite/write-fully.ts";
import { type FileEntry, type LinkEntry, type TreeEntry, type TreeIndex } from "../../tree/tree-index.ts";

const SLICE_BYTES = 1024 * 1024;

export type FormerTreeConfig = Pick<TreeConfig, "name" | "path" | "exclude" | "include">;

/** asKnown: as the log says, but for rights and times. other: it is something else, or has other content. gone: nothing is there. */
export type Standing = "asKnown" | "other" | "gone";

/** A tree of a former primary where its application has it. No symbolic link below its root is followed. */
export class FormerTree implements Disposable {
  readonly name: string;
  readonly root: string;
  readonly walk: SafeWalk;
  readonly #reader: TreeReader;
  readonly #selection: Selection;
  /** Name of the single file that it is; undefined: it is a directory. */
  readonly #file: TreePath | undefined;
  readonly #slice = Buffer.allocUnsafe(SLICE_BYTES);

  /** Undefined when nothing is there. */
  static open(config: FormerTreeConfig): FormerTree | undefined {
    const stat = fs.statSync(config.path, { throwIfNoEntry: false });
    return stat && new FormerTree(config, stat.isDirectory());
  }

  private constructor({ name, path: root, exclude, include }: FormerTreeConfig, isDirectory: boolean) {
    this.name = name;
    this.root = fs.realpathSync(root);
    this.#selection = new Selection({ exclude, include });
    this.#file = isDirectory ? undefined : (byteString(Buffer.from(path.basename(this.root))) as TreePath);
    this.walk = new SafeWalk(isDirectory ? this.root : path.dirname(this.root));
    this.#reader = new TreeReader(this.walk);
  }

  /** For the walk. */
  at(place: TreePath): TreePath {
    return this.#file ?? place;
  }

  stat(place: TreePath): fs.BigIntStats | undefined {
    // The root of a directory is no place below it.
    if (this.#file === undefined && place === "") return fs.statSync(this.root, { bigint: true });
    return this.#reader.stat(this.at(place));
  }

  compare(entry: TreeEntry): Standing {
    const stat = this.stat(entry.path);
    if (!stat) return "gone";
    const isAsKnown =
      entry.kind === "dir"
        ? stat.isDirectory()
        : entry.kind === "link"
          ? this.#isLink(entry, stat)
          : this.#isFile(entry, stat);
    return isAsKnown ? "asKnown" : "other";
  }

  /** Files, links and directories that capture would take. */
  *places(own: OwnFiles, signal: AbortSignal): Generator<TreePath> {
    const listed = listTree({ root: this.root, selection: this.#selection, own, signal });
    for (const { path: place, kind, leftOut } of listed) if (leftOut === undefined && kind !== "other") yield place;
  }

  /** @throws APPLICATION_RUNNING naming a process that writes a file of it */
  requireUnwritten(): void {
    const isOurs = (file: string): boolean => {
      const place = pathBelow(this.root, byteString(Buffer.from(file)));
      return place !== undefined && this.#selection.of(place, false) === "take";
    };
    const found = findOpenFile((file, fd) => isOurs(file) && fd.isForWriting);
    if (!found) return;
    throw new TidemarkError("APPLICATION_RUNNING", `${found.file} is open for writing in ${shownProcess(found)}`, {
      hint: "Stop whatever writes the files of this host, then run `tidemark rejoin` again.",
    });
  }

  [Symbol.dispose](): void {
    this.walk[Symbol.dispose]();
  }

  #isLink({ path: place, target }: LinkEntry, stat: fs.BigIntStats): boolean {
    return stat.isSymbolicLink() && Buffer.compare(this.#reader.readLink(this.at(place)), bytesOf(target)) === 0;
  }

  #isFile({ path: place, size, hash }: FileEntry, stat: fs.BigIntStats): boolean {
    if (!stat.isFile() || stat.size !== BigInt(size)) return false;
    try {
      return Buffer.compare(this.#hashOf(place), hash) === 0;
    } catch (error) {
      // It vanished, or cannot be read.
      if (errnoOf(error) === undefined) throw error;
      return false;
    }
  }

  #hashOf(place: TreePath): Buffer {
    const fd = this.#reader.openFile(this.at(place));
    try {
      const digest = createHash("sha256");
      for (let position = 0; ;) {
        const length = readUpTo(fd, this.#slice, position);
        digest.update(this.#slice.subarray(0, length));
        position += length;
        if (length < this.#slice.length) return digest.digest();
      }
    } finally {
      fs.closeSync(fd);
    }
  }
}

/** What of a tree the log does not have, or has and is not there any more. */
export interface TreeDifference {
  readonly place: TreePath;
  readonly was: "other" | "gone" | "new";
}

export async function* differencesOf(
  tree: FormerTree,
  { index, own, signal }: { readonly index: TreeIndex; readonly own: OwnFiles; readonly signal: AbortSignal },
): AsyncGenerator<TreeDifference> {
  for (const entry of index.entries(tree.name)) {
    signal.throwIfAborted();
    const was = tree.compare(entry);
    if (was !== "asKnown") yield { place: entry.path, was };
  }
  for (const place of tree.places(own, signal))
    if (index.entry(tree.name, place) === undefined) yield { place, was: "new" };
}
