import fs from "node:fs";
import path from "node:path";

import type { PathMetadata } from "../../event/kinds.ts";
import { type ByteString, bytesOf, joinPath, parentPath, TREE_ROOT, type TreePath } from "../../event/tree-path.ts";
import { syncDescriptor, syncFile } from "../../runtime/durable-directory.ts";
import { errnoOf, hasCode } from "../../runtime/errors.ts";
import { applyMetadata, fileTime, mayChangeOwners } from "../../tree/metadata.ts";
import type { LinkEntry } from "../../tree/tree-index.ts";
import { SafeWalk } from "./safe-walk.ts";

const SYNC_AT_ONCE = 16;
/** Beside a place that is on another file system than the stage; of whichever change was killed there, the next one replaces it. */
const BESIDE = ".tidemark-new" as ByteString;

/**
 * Changes what stands at places below the standby's root. Paths are relative to the root, trees' names included. Each
 * place goes from old to new in one step, but for a directory that makes way for something else. Names are durable
 * after `sync`, contents when their makers saw to it.
 */
export class TreeWriter implements Disposable {
  readonly #walk: SafeWalk;
  readonly #stage: string;
  /** Directories whose entries or metadata changed since the last sync. */
  readonly #changed = new Set<TreePath>();
  #made: TreePath[] = [];

  /** @param stage directory of ours on the root's file system */
  constructor(root: string, stage: string) {
    this.#walk = new SafeWalk(root);
    this.#stage = stage;
  }

  /** What stands there; a symbolic link is not followed, nor on the way. */
  stat(at: TreePath): fs.BigIntStats | undefined {
    try {
      return fs.lstatSync(this.#walk.place(at), { bigint: true, throwIfNoEntry: false });
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || hasCode(error, "PATH_UNSAFE")) return undefined;
      throw error;
    }
  }

  /** For reading. */
  openFile(at: TreePath): number {
    return fs.openSync(this.#walk.place(at), fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK);
  }

  readLink(at: TreePath): Buffer {
    return fs.readlinkSync(this.#walk.place(at), { encoding: "buffer" });
  }

  /** Names in a directory. */
  list(at: TreePath): Buffer[] {
    return fs.readdirSync(this.#walk.inside(at), { encoding: "buffer" });
  }

  /** A path by which a directory's metadata can be read. Valid until the next call. */
  inside(at: TreePath): string {
    return this.#walk.inside(at);
  }

  /** Of a file whose path is text, for what takes no bytes. Valid until the next call. */
  textPlace(at: TreePath): string {
    return this.#walk.place(at).toString();
  }

  /** Directories that were missing on the way to others, since the last call: their metadata is to be set. */
  takeMade(): readonly TreePath[] {
    const made = this.#made;
    this.#made = [];
    return made;
  }

  takeLoosened(): readonly TreePath[] {
    return this.#walk.takeLoosened();
  }

  /** Only we may enter a new one until it gets its metadata. */
  makeDirectory(at: TreePath): void {
    const make = (): void => fs.mkdirSync(this.#placeFor(at), { mode: 0o700 });
    try {
      this.#accessible(at, make);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
      if (this.stat(at)?.isDirectory()) return;
      this.remove(at);
      make();
    }
    this.#noteEntry(at);
  }

  /** Moves a staged file to its place. */
  placeFile(at: TreePath, staged: string, metadata: PathMetadata): void {
    this.#exchange(at, staged, (beside) => {
      fs.copyFileSync(staged, beside, fs.constants.COPYFILE_EXCL);
      applyMetadata(beside, metadata);
      syncFile(beside);
      fs.unlinkSync(staged);
    });
  }

  placeLink(at: TreePath, { target, uid, gid, mtimeNs }: LinkEntry): void {
    const make = (temporary: string): void => {
      fs.symlinkSync(bytesOf(target), temporary);
      if (mayChangeOwners) fs.lchownSync(temporary, uid, gid);
      fs.lutimesSync(temporary, fileTime(mtimeNs), fileTime(mtimeNs));
    };
    this.#makeAndPlace(at, make);
  }

  /** Makes `at` another name of the file at `existing`. */
  placeName(at: TreePath, existing: TreePath): void {
    const [one, other] = [this.stat(at), this.stat(existing)];
    // A rename of one name of a file to another of its names does nothing, and leaves both.
    if (one?.ino === other?.ino && one?.dev === other?.dev) return;
    this.#makeAndPlace(at, (temporary) => {
      fs.linkSync(this.#walk.place(existing), temporary);
    });
  }

  /** Of a file that stays as it is, all of its names. Durable when it returns. */
  setFileMetadata(at: TreePath, metadata: PathMetadata): void {
    // A name that need not be text cannot be given to all that sets metadata: the file gets one of ours for a moment.
    const own = this.#freshTemporary();
    const link = (to: string): void => fs.linkSync(this.#walk.place(at), to);
    let name = own;
    try {
      link(own);
    } catch (error) {
      if (errnoOf(error) !== "EXDEV") throw error;
      name = this.#beside(at);
      link(name);
      this.#changed.add(parentPath(at));
    }
    try {
      applyMetadata(name, metadata);
      syncFile(name);
    } finally {
      fs.unlinkSync(name);
    }
  }

  setDirectoryMetadata(at: TreePath, metadata: PathMetadata): void {
    const inside = this.#walk.inside(at);
    applyMetadata(inside, metadata);
    this.#changed.add(at);
  }

  /** Whatever is there, all that is below it included. That nothing is there is right, too. */
  remove(at: TreePath): void {
    try {
      this.#accessible(at, () => this.#removePlace(at));
    } catch (error) {
      // Beyond what is no directory there is nothing either.
      if (errnoOf(error) !== "ENOENT" && !hasCode(error, "PATH_UNSAFE")) throw error;
    }
  }

  /** Makes names and directories' metadata durable. May be called again after it threw. */
  async sync(): Promise<void> {
    for (const some of batchesOf([...this.#changed], SYNC_AT_ONCE)) {
      const opened = some.flatMap((at) => this.#openDirectory(at) ?? []);
      await Promise.all(opened.map(syncAndClose));
    }
    this.#changed.clear();
  }

  /** Number of directories that a sync would take on. */
  get unsynced(): number {
    return this.#changed.size;
  }

  /** All of the file system was made durable another way. */
  markSynced(): void {
    this.#changed.clear();
  }

  /** Lets go of the way to the last place: others may change it. */
  rest(): void {
    this.#walk.forget(TREE_ROOT);
  }

  [Symbol.dispose](): void {
    this.#walk[Symbol.dispose]();
  }

  #makeAndPlace(at: TreePath, make: (temporary: string) => void): void {
    const temporary = this.#freshTemporary();
    try {
      make(temporary);
    } catch (error) {
      if (errnoOf(error) !== "EXDEV") throw error;
      return this.#placeBeside(at, make);
    }
    this.#exchange(at, temporary, (beside) => {
      fs.unlinkSync(temporary);
      make(beside);
    });
  }

  /** Renames `temporary` to its place; on another file system `make` makes it again beside the place. */
  #exchange(at: TreePath, temporary: string, make: (beside: string) => void): void {
    try {
      this.#accessible(at, () => this.#rename(temporary, at));
    } catch (error) {
      if (errnoOf(error) !== "EXDEV") throw error;
      this.#placeBeside(at, make);
    }
  }

  #placeBeside(at: TreePath, make: (beside: string) => void): void {
    make(this.#beside(at));
    this.#rename(this.#beside(at, { keep: true }), at);
  }

  #rename(from: string, at: TreePath): void {
    const place = this.#placeFor(at);
    try {
      fs.renameSync(from, place);
    } catch (error) {
      if (errnoOf(error) !== "EISDIR") throw error;
      this.#removePlace(at);
      fs.renameSync(from, this.#walk.place(at));
    }
    this.#noteEntry(at);
  }

  #noteEntry(at: TreePath): void {
    this.#changed.add(parentPath(at));
  }

  /** Like `place`, and directories that are missing on the way are made. */
  #placeFor(at: TreePath): Buffer {
    try {
      return this.#walk.place(at);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
    }
    const parts = at.split("/").slice(0, -1);
    parts.forEach((_, depth) => {
      const directory = parts.slice(0, depth + 1).join("/") as TreePath;
      try {
        fs.mkdirSync(this.#walk.place(directory), { mode: 0o700 });
      } catch (error) {
        if (errnoOf(error) === "EEXIST") return;
        throw error;
      }
      this.#made.push(directory);
      this.#changed.add(parentPath(directory));
    });
    return this.#walk.place(at);
  }

  /** Where directories were given rights that keep ourselves out, they are changed for the time being. */
  #accessible(at: TreePath, act: () => void): void {
    try {
      act();
    } catch (error) {
      if (errnoOf(error) !== "EACCES" || !this.#walk.loosen(parentPath(at))) throw error;
      act();
    }
  }

  #removePlace(at: TreePath): void {
    this.#walk.forget(at);
    try {
      fs.unlinkSync(this.#walk.place(at));
    } catch (error) {
      if (errnoOf(error) !== "EISDIR" && errnoOf(error) !== "EPERM") throw error;
      this.#removeDirectory(at);
    }
    this.#noteEntry(at);
  }

  #removeDirectory(at: TreePath): void {
    for (const name of this.#listToRemove(at)) this.remove(joinPath(at, name.toString("latin1")));
    this.#walk.forget(at);
    fs.rmdirSync(this.#walk.place(at));
    this.#changed.delete(at);
  }

  #listToRemove(at: TreePath): Buffer[] {
    try {
      return this.list(at);
    } catch (error) {
      if (errnoOf(error) !== "EACCES" || !this.#walk.loosen(at)) throw error;
      return this.list(at);
    }
  }

  #openDirectory(at: TreePath): number | undefined {
    const open = (): number => fs.openSync(this.#walk.inside(at), "r");
    try {
      return open();
    } catch (error) {
      // Gone since, with everything that was in it; its own directory is synced.
      if (errnoOf(error) === "ENOENT" || hasCode(error, "PATH_UNSAFE")) return undefined;
      if (errnoOf(error) !== "EACCES") throw error;
      const directory = `/proc/self/fd/${this.#walk.directory(at)}`;
      const mode = fs.statSync(directory).mode & 0o7777;
      fs.chmodSync(directory, mode | 0o500);
      try {
        return open();
      } finally {
        fs.chmodSync(directory, mode);
      }
    }
  }

  #freshTemporary(): string {
    const temporary = path.join(this.#stage, "next");
    fs.rmSync(temporary, { force: true });
    return temporary;
  }

  #beside(at: TreePath, { keep = false } = {}): string {
    this.#placeFor(at);
    const beside = `/proc/self/fd/${this.#walk.directory(parentPath(at))}/${BESIDE}`;
    if (!keep) fs.rmSync(beside, { force: true });
    return beside;
  }
}

function* batchesOf<T>(all: readonly T[], size: number): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += size) yield all.slice(at, at + size);
}

async function syncAndClose(fd: number): Promise<void> {
  try {
    await syncDescriptor(fd);
  } finally {
    fs.closeSync(fd);
  }
}
