import path from "node:path";

import {
  byteString,
  type ByteString,
  fsPath,
  joinPath,
  nameOf,
  parentPath,
  TREE_ROOT,
  type TreePath,
} from "../../event/tree-path.ts";
import { errnoOf } from "../../runtime/errors.ts";
import type { Identity } from "./tree-seam.ts";
import type { WatchBackend } from "./watch-backend.ts";

interface Watched extends Identity {
  readonly watch: Disposable;
  /** It was moved, removed or replaced: whether the watch is on what stands at the path is to be seen. */
  suspect: boolean;
}

export interface Announced {
  readonly path: TreePath;
  readonly kind: "rename" | "change";
}

export interface TreeWatchOptions {
  /** Absolute path of the tree's directory or single file. */
  readonly root: string;
  readonly backend: WatchBackend;
  readonly onDirty: (directory: TreePath, name: ByteString, kind: "rename" | "change") => void;
  /** All of the directory. `about`: it was announced of this, or of the directory itself; undefined: it is not known of what. */
  readonly onAllDirty: (directory: TreePath, about?: Announced) => void;
  /** Something may have passed unseen. */
  readonly onFailure: (error: unknown) => void;
}

/** Watches the directories of one tree, and the place at which its root stands. */
export class TreeWatch implements Disposable {
  readonly #options: TreeWatchOptions;
  readonly #watched = new Map<TreePath, Watched>();
  /** For which there was no room. */
  readonly #unwatched = new Set<TreePath>();
  readonly #rootName: ByteString;
  #parent: Disposable | undefined;
  #refusal: string | undefined;

  constructor(options: TreeWatchOptions) {
    this.#options = options;
    this.#rootName = byteString(Buffer.from(path.basename(options.root)));
  }

  watches(directory: TreePath): boolean {
    return this.#watched.has(directory);
  }

  /** Directories that cannot be watched, because there is no room for more watches. */
  get unwatched(): ReadonlySet<TreePath> {
    return this.#unwatched;
  }

  /** Why, as an errno: ENOSPC or EMFILE. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** Watches the directory that holds the root: a root that is moved or replaced does not say so itself. */
  begin(): void {
    this.#parent?.[Symbol.dispose]();
    this.#parent = undefined;
    try {
      const { backend, root } = this.#options;
      this.#parent = backend.watch(Buffer.from(path.dirname(root)), {
        onEvent: (kind, name) => this.#onParentEvent(kind, name),
        onFailure: (error) => this.#options.onFailure(error),
      });
    } catch (error) {
      // Without a parent there is no root either, which the scan says.
      if (!isVanished(error)) this.#refuse(TREE_ROOT, error);
    }
  }

  /** See LookOptions.enter. */
  enter(directory: TreePath, { dev, ino }: Identity): boolean {
    const known = this.#watched.get(directory);
    if (known && !known.suspect && known.ino === ino && known.dev === dev) return false;
    const watch = this.#watch(directory);
    // After the new one: on the same inode it stays the same watch.
    known?.watch[Symbol.dispose]();
    if (watch) this.#watched.set(directory, { dev, ino, watch, suspect: false });
    else this.#watched.delete(directory);
    return true;
  }

  /** These directories are gone, and everything below them. */
  leave(gone: ReadonlySet<TreePath>): void {
    if (gone.size === 0) return;
    for (const [directory, { watch }] of this.#watched) {
      if (!isBelow(directory, gone)) continue;
      watch[Symbol.dispose]();
      this.#watched.delete(directory);
    }
    for (const directory of this.#unwatched) if (isBelow(directory, gone)) this.#unwatched.delete(directory);
  }

  [Symbol.dispose](): void {
    this.#parent?.[Symbol.dispose]();
    this.leave(new Set([TREE_ROOT]));
  }

  #watch(directory: TreePath): Disposable | undefined {
    const { backend, root } = this.#options;
    try {
      const watch = backend.watch(fsPath(root, directory), {
        onEvent: (kind, name) => this.#onEvent(directory, kind, name),
        onFailure: (error) => this.#onFailure(directory, error),
      });
      this.#unwatched.delete(directory);
      return watch;
    } catch (error) {
      // What vanishes is announced by the directory that it was in.
      if (!isVanished(error)) this.#refuse(directory, error);
      return undefined;
    }
  }

  #refuse(directory: TreePath, error: unknown): void {
    this.#refusal = errnoOf(error) ?? String(error);
    this.#unwatched.add(directory);
  }

  #onEvent(directory: TreePath, kind: "rename" | "change", name: ByteString | undefined): void {
    const { onDirty, onAllDirty } = this.#options;
    // A directory tells of its own end under its own name, which may be that of something in it as well.
    if (name === undefined || name === this.#nameOf(directory)) {
      const itself = this.#watched.get(directory);
      if (itself && kind === "rename") itself.suspect = true;
      return onAllDirty(directory, name === undefined ? undefined : { path: joinPath(directory, name), kind });
    }
    const child = kind === "rename" ? this.#watched.get(joinPath(directory, name)) : undefined;
    if (child) child.suspect = true;
    onDirty(directory, name, kind);
  }

  #nameOf(directory: TreePath): ByteString {
    return directory === TREE_ROOT ? this.#rootName : nameOf(directory);
  }

  #onParentEvent(kind: "rename" | "change", name: ByteString | undefined): void {
    if (name !== undefined && name !== this.#rootName) return;
    const root = this.#watched.get(TREE_ROOT);
    if (root) root.suspect = true;
    this.#options.onAllDirty(TREE_ROOT, name === undefined ? undefined : { path: TREE_ROOT, kind });
  }

  #onFailure(directory: TreePath, error: unknown): void {
    const failed = this.#watched.get(directory);
    if (failed) failed.suspect = true;
    this.#options.onAllDirty(directory);
    this.#options.onFailure(error);
  }
}

function isBelow(directory: TreePath, tops: ReadonlySet<TreePath>): boolean {
  for (let one = directory; ; one = parentPath(one)) {
    if (tops.has(one)) return true;
    if (one === TREE_ROOT) return false;
  }
}

function isVanished(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === "ENOENT" || errno === "ENOTDIR" || errno === "ELOOP" || errno === "EACCES";
}
