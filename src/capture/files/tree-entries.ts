import { type ByteString, joinPath, parentPath, type TreePath } from "../../event/tree-path.ts";
import { type Entry, inodeNumberOf } from "./entry.ts";
import type { EntryTable } from "./entry-table.ts";
import type { StagedChange, Staging } from "./staging.ts";

/** The entries of one tree as the log has them: what is stored, and what was said since. */
export class TreeEntries {
  readonly #table: EntryTable;
  readonly #staging: Staging;
  readonly #tree: number;
  #files = 0;
  #bytes = 0;
  #lastGroup = 0;

  constructor(table: EntryTable, staging: Staging, name: string) {
    this.#table = table;
    this.#staging = staging;
    this.#tree = table.treeId(name);
    this.count();
  }

  /** Files and links. */
  get files(): number {
    return this.#files;
  }

  get bytes(): number {
    return this.#bytes;
  }

  count(): void {
    const { files, bytes } = this.#figuresAt("" as TreePath);
    this.#files = files;
    this.#bytes = bytes;
    this.#lastGroup = this.#table.lastGroup(this.#tree);
  }

  /** A number that no names of a file share. */
  newGroup(): number {
    return (this.#lastGroup += 1);
  }

  /** Nothing of what is in this directory is stored. */
  isNew(directory: TreePath): boolean {
    return this.#staging.isVoid(this.#tree, directory);
  }

  get(path: TreePath): Entry | undefined {
    const staged = this.#staging.change(this.#tree, path);
    if (staged) return staged.entry;
    if (path !== "" && this.#staging.isVoid(this.#tree, parentPath(path))) return undefined;
    return this.#table.get(this.#tree, path);
  }

  /**
   * What is in a directory, in the order of bytes. It may change while the caller goes through it: what is said of an entry
   * has to be asked again before something else is said of it.
   */
  *inDirectory(directory: TreePath): Generator<readonly [ByteString, Entry]> {
    const changes = this.#staging.inDirectory(this.#tree, directory);
    const staged = [...(changes?.keys() ?? [])].filter((name) => name !== "").sort();
    let next = 0;
    for (const [name, stored] of this.#stored(directory)) {
      for (let one = staged[next]; one !== undefined && one < name; one = staged[(next += 1)]) {
        yield* this.#current(directory, one);
      }
      if (staged[next] === name) next += 1;
      const change = this.#staging.change(this.#tree, joinPath(directory, name));
      const entry = change ? change.entry : stored;
      if (entry) yield [name, entry];
    }
    for (const name of staged.slice(next)) yield* this.#current(directory, name);
  }

  pathsOfInode(inode: bigint): Set<TreePath> {
    const stored = this.#table.pathsOfInode(this.#tree, inode);
    return new Set([...stored, ...this.#staging.pathsOfInode(this.#tree, inode)]);
  }

  /** Names of the files that have a name at a path or below it, and others. */
  *otherNames(path: TreePath): Generator<TreePath> {
    const entry = this.get(path);
    if (entry?.kind !== "dir") {
      if (entry && entry.group > 0) yield* this.pathsOfInode(inodeNumberOf(entry.stamp));
      return;
    }
    const staged = [...this.#staging.below(this.#tree, path)].map(({ entry: one }) => one);
    const grouped = staged.filter((one) => one !== undefined && one.group > 0);
    const stored = this.#staging.isVoid(this.#tree, path) ? [] : this.#table.stampsOfGrouped(this.#tree, path);
    for (const stamp of [...grouped.map((one) => one?.stamp ?? ""), ...stored]) {
      yield* this.pathsOfInode(inodeNumberOf(stamp));
    }
  }

  /** Files and links at a path and below it. */
  filesAt(path: TreePath): number {
    return this.#figuresAt(path).files;
  }

  /** What is said of a place, of which `before` was said last, by a record that is about to be sent. */
  put(path: TreePath, entry: Entry, before: Entry | undefined): StagedChange {
    this.#account(figuresOf(before), -1);
    this.#account(figuresOf(entry), 1);
    return this.#staging.put(this.#tree, path, { entry, isNew: before === undefined });
  }

  remove(path: TreePath): StagedChange {
    this.#account(this.#figuresAt(path), -1);
    return this.#staging.remove(this.#tree, path);
  }

  #figuresAt(path: TreePath): Figures {
    const entry = this.get(path);
    if (entry && entry.kind !== "dir") return figuresOf(entry);
    const isVoid = this.#staging.isVoid(this.#tree, path);
    const found = isVoid ? { files: 0, bytes: 0 } : this.#table.figures(this.#tree, path);
    for (const change of this.#staging.below(this.#tree, path)) {
      if (change.path === path) continue;
      add(found, figuresOf(change.entry), 1);
      if (!isVoid) add(found, figuresOf(this.#table.get(this.#tree, change.path)), -1);
    }
    return found;
  }

  #account({ files, bytes }: Figures, times: 1 | -1): void {
    this.#files += times * files;
    this.#bytes += times * bytes;
  }

  *#stored(directory: TreePath): Generator<readonly [ByteString, Entry]> {
    if (this.#staging.isVoid(this.#tree, directory)) return;
    let after = "";
    for (;;) {
      const page = this.#table.page(this.#tree, directory, after);
      yield* page;
      const last = page.at(-1);
      if (!last) return;
      after = last[0];
    }
  }

  *#current(directory: TreePath, name: ByteString): Generator<readonly [ByteString, Entry]> {
    const entry = this.get(joinPath(directory, name));
    if (entry) yield [name, entry];
  }
}

interface Figures {
  files: number;
  bytes: number;
}

function figuresOf(entry: Entry | undefined): Figures {
  return entry && entry.kind !== "dir" ? { files: 1, bytes: entry.size } : { files: 0, bytes: 0 };
}

function add(to: Figures, { files, bytes }: Figures, times: 1 | -1): void {
  to.files += times * files;
  to.bytes += times * bytes;
}
