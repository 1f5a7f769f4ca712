import type { Offset } from "../../event/positions.ts";
import { type ByteString, nameOf, parentPath, type TreePath } from "../../event/tree-path.ts";
import { type Entry, inodeOf } from "./entry.ts";

/** What is at a place of a tree from the record at `offset` on. Without entry: nothing, and nothing below it. */
export interface StagedChange {
  readonly tree: number;
  readonly path: TreePath;
  readonly entry: Entry | undefined;
  /** 0 until it is sent. */
  offset: number;
}

export interface StagedContent {
  readonly id: ByteString;
  /** 0 until it is sent. */
  offset: number;
}

type Staged = StagedChange | StagedContent;

/**
 * What was said of trees and is not stored: it lies on top of what the index holds, so that nothing is said twice, and is
 * stored when the log has it for good.
 */
export class Staging {
  /** Newest change of each place, by tree and directory, then name. The root is the nameless entry of its own directory. */
  readonly #directories = new Map<string, Map<ByteString, StagedChange>>();
  readonly #byInode = new Map<string, Set<TreePath>>();
  /** Directories that were removed: what is stored below them is void. */
  readonly #removed = new Map<string, StagedChange>();
  /** Directories that are new: nothing of what is in them is stored yet. */
  readonly #fresh = new Set<string>();
  readonly #contents = new Map<ByteString, StagedContent>();
  /** In the order of their offsets. */
  #sent: Staged[] = [];

  inDirectory(tree: number, directory: TreePath): ReadonlyMap<ByteString, StagedChange> | undefined {
    return this.#directories.get(keyOf(tree, directory));
  }

  change(tree: number, path: TreePath): StagedChange | undefined {
    return this.inDirectory(tree, parentPath(path))?.get(nameOf(path));
  }

  /** Newest changes below a directory. */
  *below(tree: number, top: TreePath): Generator<StagedChange> {
    for (const [key, names] of this.#directories) {
      if (isBelow(key, keyOf(tree, top))) yield* names.values();
    }
  }

  /** Whether nothing of this directory's content is stored, or was removed since. */
  isVoid(tree: number, directory: TreePath): boolean {
    if (this.#fresh.has(keyOf(tree, directory))) return true;
    if (this.#removed.size === 0) return false;
    for (let at = directory; ; at = parentPath(at)) {
      if (this.#removed.has(keyOf(tree, at))) return true;
      if (at === "") return false;
    }
  }

  pathsOfInode(tree: number, inode: bigint): Iterable<TreePath> {
    return this.#byInode.get(inodeKey(tree, inode)) ?? [];
  }

  content(id: ByteString): StagedContent | undefined {
    return this.#contents.get(id);
  }

  /** `isNew`: nothing was known of this place. */
  put(tree: number, path: TreePath, { entry, isNew }: { entry: Entry; isNew: boolean }): StagedChange {
    if (isNew && entry.kind === "dir") this.#fresh.add(keyOf(tree, path));
    const change: StagedChange = { tree, path, entry, offset: 0 };
    this.#place(change);
    const inode = inodeOf(entry);
    if (inode !== 0n) addTo(this.#byInode, inodeKey(tree, inode), path);
    return change;
  }

  remove(tree: number, path: TreePath): StagedChange {
    const change: StagedChange = { tree, path, entry: undefined, offset: 0 };
    for (const [key, names] of this.#directories) {
      if (!isBelow(key, keyOf(tree, path))) continue;
      for (const gone of names.values()) this.#forgetInode(gone);
      this.#directories.delete(key);
    }
    this.#removed.set(keyOf(tree, path), change);
    this.#place(change);
    return change;
  }

  addContent(id: ByteString): StagedContent {
    const content = { id, offset: 0 };
    this.#contents.set(id, content);
    return content;
  }

  /** Its record is in the order of the log now, behind those before. */
  sent(what: Staged, offset: number): void {
    what.offset = offset;
    this.#sent.push(what);
  }

  /** What was sent up to this offset, in order: for the caller to store, then to `forget`. */
  through(acknowledged: Offset): readonly Staged[] {
    const end = this.#sent.findIndex(({ offset }) => offset > acknowledged);
    return this.#sent.slice(0, end === -1 ? undefined : end);
  }

  forget(stored: readonly Staged[]): void {
    this.#sent = this.#sent.slice(stored.length);
    for (const one of stored) {
      if ("id" in one) {
        if (this.#contents.get(one.id) === one) this.#contents.delete(one.id);
        continue;
      }
      const key = keyOf(one.tree, one.path);
      this.#fresh.delete(keyOf(one.tree, parentPath(one.path)));
      if (this.#removed.get(key) === one) this.#removed.delete(key);
      if (this.change(one.tree, one.path) === one) this.#drop(one);
    }
  }

  #place(change: StagedChange): void {
    const where = keyOf(change.tree, parentPath(change.path));
    const names = this.#directories.get(where);
    const name = nameOf(change.path);
    this.#forgetInode(names?.get(name));
    if (names) names.set(name, change);
    else this.#directories.set(where, new Map([[name, change]]));
  }

  #drop(change: StagedChange): void {
    const where = keyOf(change.tree, parentPath(change.path));
    const names = this.#directories.get(where);
    names?.delete(nameOf(change.path));
    if (names?.size === 0) this.#directories.delete(where);
    this.#forgetInode(change);
  }

  #forgetInode(change: StagedChange | undefined): void {
    const inode = change?.entry ? inodeOf(change.entry) : 0n;
    if (!change || inode === 0n) return;
    const key = inodeKey(change.tree, inode);
    const paths = this.#byInode.get(key);
    paths?.delete(change.path);
    if (paths?.size === 0) this.#byInode.delete(key);
  }
}

function addTo<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const values = map.get(key);
  if (values) values.add(value);
  else map.set(key, new Set([value]));
}

function keyOf(tree: number, directory: TreePath): string {
  return `${tree}/${directory}`;
}

/** Whether the directory of this key is `top` or below it. */
function isBelow(key: string, top: string): boolean {
  return key === top || key.startsWith(top.endsWith("/") ? top : `${top}/`);
}

function inodeKey(tree: number, inode: bigint): string {
  return `${tree} ${inode}`;
}
