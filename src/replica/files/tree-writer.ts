import fs from "node:fs";
import path from "node:path";

import type { PathMetadata } from "../../event/kinds.ts";
import { type ByteString, bytesOf, byteString, joinPath, parentPath, type TreePath } from "../../event/tree-path.ts";
import { syncFile } from "../../runtime/durable-directory.ts";
import { errnoOf, hasCode } from "../../runtime/errors.ts";
import { applyMetadata, fileTime, mayChangeOwners } from "../../tree/metadata.ts";
import type { LinkEntry } from "../../tree/tree-index.ts";
import type { ChangedDirectories } from "./changed-directories.ts";
import type { Refusals } from "./refusals.ts";
import { O_PATH, type SafeWalk } from "./safe-walk.ts";
import type { TreeReader } from "./tree-reader.ts";

/** Beside a place that is on another file system than the stage; what was killed there the next one replaces. */
const BESIDE = ".tidemark-new" as ByteString;
const OWNER_ACCESS = 0o700;

export interface TreeWriterOptions {
  readonly walk: SafeWalk;
  readonly reader: TreeReader;
  readonly changed: ChangedDirectories;
  readonly refusals: Refusals;
  /** A directory of ours on the root's file system. */
  readonly stage: string;
}

/**
 * Changes what stands at places below the standby's root. Each place goes from old to new in one step, but for a
 * directory that makes way for something else. Directories that changed are noted, to be made durable later; contents
 * are when their makers saw to it.
 */
export class TreeWriter {
  readonly #walk: SafeWalk;
  readonly #options: TreeWriterOptions;
  readonly #changed: ChangedDirectories;
  #made: TreePath[] = [];

  constructor(options: TreeWriterOptions) {
    this.#options = options;
    this.#walk = options.walk;
    this.#changed = options.changed;
  }

  /** Directories that were missing on the way to others, since the last call: their metadata is to be set. */
  takeMade(): readonly TreePath[] {
    const made = this.#made;
    this.#made = [];
    return made;
  }

  /** Makes what is missing of the directories above a tree, which no record tells of. */
  makeWayTo(root: TreePath): void {
    this.#makeMissingAbove(root, 0o777);
  }

  /**
   * Only we may enter a new one until it gets its metadata. False when it is there. `holds`: whether there should be something
   * in it that is not put there now. @throws PATH_UNSAFE when that is so and a symbolic link took its place
   */
  makeDirectory(at: TreePath, holds: () => boolean): boolean {
    const make = (): void => fs.mkdirSync(this.#placeFor(at), { mode: OWNER_ACCESS });
    try {
      this.#accessible(at, make);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
      const stat = this.#options.reader.stat(at);
      if (stat?.isDirectory()) return false;
      if (stat?.isSymbolicLink() && holds()) this.#walk.directory(at);
      this.remove(at);
      make();
    }
    this.#changed.addAbove(at);
    return true;
  }

  /** Moves a staged file to its place. */
  placeFile(at: TreePath, staged: string, metadata: PathMetadata): void {
    this.#exchange(at, staged, (beside) => {
      fs.copyFileSync(staged, beside, fs.constants.COPYFILE_EXCL);
      this.#options.refusals.note(at, applyMetadata(beside, metadata));
      syncFile(beside);
      fs.unlinkSync(staged);
    });
  }

  placeLink(at: TreePath, { target, uid, gid, mtimeNs }: LinkEntry): void {
    this.#makeAndPlace(at, (temporary) => {
      fs.symlinkSync(bytesOf(target), temporary);
      if (mayChangeOwners) fs.lchownSync(temporary, uid, gid);
      fs.lutimesSync(temporary, fileTime(mtimeNs), fileTime(mtimeNs));
    });
  }

  /** Makes `at` another name of the file at `existing`. */
  placeName(at: TreePath, existing: TreePath): void {
    const { reader } = this.#options;
    const [one, other] = [reader.stat(at), reader.stat(existing)];
    // A rename of one name of a file to another of its names does nothing, and leaves both.
    if (one?.ino === other?.ino && one?.dev === other?.dev) return;
    this.#makeAndPlace(at, (temporary) => fs.linkSync(this.#walk.place(existing), temporary));
  }

  /** Of a file that stays as it is, all of its names. Durable when it returns. */
  setFileMetadata(at: TreePath, metadata: PathMetadata): void {
    const set = (name: string): void => {
      // A name that need not be text cannot be given to all that sets metadata: the file gets one of ours for a moment.
      fs.linkSync(this.#walk.place(at), name);
      try {
        this.#options.refusals.note(at, applyMetadata(name, metadata));
        syncFile(name);
      } finally {
        fs.unlinkSync(name);
      }
    };
    try {
      set(this.#freshTemporary());
    } catch (error) {
      if (errnoOf(error) !== "EXDEV") throw error;
      this.#beside(at, set);
    }
  }

  setDirectoryMetadata(at: TreePath, metadata: PathMetadata): void {
    this.#options.refusals.note(at, this.#applyToDirectory(at, metadata));
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

  /** The rights that it has, or gets, may keep even its owner out, who we may be, or root without its capabilities: they come last then. */
  #applyToDirectory(at: TreePath, metadata: PathMetadata): readonly string[] {
    try {
      return applyMetadata(this.#walk.inside(at), metadata);
    } catch (error) {
      if (errnoOf(error) !== "EACCES") throw error;
    }
    const directory = `/proc/self/fd/${this.#walk.directory(at)}`;
    const mode = metadata.mode | OWNER_ACCESS;
    fs.chmodSync(directory, mode);
    const refused = applyMetadata(this.#walk.inside(at), { ...metadata, mode });
    fs.chmodSync(directory, metadata.mode);
    return refused;
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
    this.#beside(at, (beside) => {
      make(beside);
      this.#rename(beside, at);
    });
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
    this.#changed.addAbove(at);
  }

  /** Like `place`, and directories that are missing on the way are made. */
  #placeFor(at: TreePath): Buffer {
    try {
      return this.#walk.place(at);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
    }
    this.#made.push(...this.#makeMissingAbove(at, OWNER_ACCESS));
    return this.#walk.place(at);
  }

  #makeMissingAbove(at: TreePath, mode: number): TreePath[] {
    const parts = at.split("/").slice(0, -1);
    return parts.flatMap((_, depth) => {
      const directory = parts.slice(0, depth + 1).join("/") as TreePath;
      try {
        fs.mkdirSync(this.#walk.place(directory), { mode });
      } catch (error) {
        if (errnoOf(error) === "EEXIST") return [];
        throw error;
      }
      this.#changed.addAbove(directory);
      return [directory];
    });
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
    this.#changed.addAbove(at);
  }

  #removeDirectory(at: TreePath): void {
    for (const name of this.#options.reader.list(at)) this.remove(joinPath(at, byteString(name)));
    this.#walk.forget(at);
    fs.rmdirSync(this.#walk.place(at));
    this.#changed.gone(at);
  }

  #freshTemporary(): string {
    const temporary = path.join(this.#options.stage, "next");
    fs.rmSync(temporary, { force: true });
    return temporary;
  }

  /** The directory has a descriptor of its own meanwhile: `act` may walk elsewhere. */
  #beside(at: TreePath, act: (beside: string) => void): void {
    this.#placeFor(at);
    const fd = fs.openSync(this.#walk.inside(parentPath(at)), O_PATH | fs.constants.O_DIRECTORY);
    try {
      const beside = `/proc/self/fd/${fd}/${BESIDE}`;
      fs.rmSync(beside, { force: true });
      act(beside);
      this.#changed.addAbove(at);
    } finally {
      fs.closeSync(fd);
    }
  }
}
