import fs, { type BigIntStats } from "node:fs";

import { byteString, fsPath, parentPath, pathBelow, type TreePath } from "../../event/tree-path.ts";
import { errnoOf } from "../../runtime/errors.ts";
import { metadataOf } from "../../tree/metadata.ts";
import type { EarlyRead } from "./early-reads.ts";
import { type Entry, inodeNumberOf, sameStat, stampOf } from "./entry.ts";
import type { Captured, FileCapture } from "./file-capture.ts";
import { whereIs } from "./held-file.ts";
import { isInPlace } from "./real-place.ts";
import { hasKnownParent, lstat, type Place, sayDirectory } from "./say-directory.ts";
import type { Selected } from "./selection.ts";
import type { TreeParts } from "./tree-parts.ts";
import type { LookOptions, Removal } from "./tree-seam.ts";

export interface PathCompareOptions extends Pick<LookOptions, "enter" | "held"> {
  /** Real path of the tree. */
  readonly root: string;
  /** A directory has to be listed, `anew`: from its first name on; `deep`: also those below it that are known. */
  readonly onList: (directory: TreePath, how: { readonly anew: boolean; readonly deep: boolean }) => void;
  /** Infinity: of a scan. */
  readonly deadlineMs: number;
  /** What was read of a file before, if it still stands like this. */
  readonly early?: (path: TreePath, stat: BigIntStats) => EarlyRead | undefined;
  /** Files and bytes that were compared. */
  readonly onCompared: (files: number, bytes: number) => void;
}

/** Compares what stands at single paths with what the log says, and says what is new. */
export class PathCompare {
  /** Seen to be gone. */
  readonly removals = new Map<TreePath, Removal>();
  /** Files and links that the log has as they were last; not those of a scan. */
  readonly captured = new Set<TreePath>();
  /** What was held of them could not be sent. */
  readonly missed: TreePath[] = [];
  /** Other names of files that were captured: to be compared. */
  readonly again = new Set<TreePath>();
  readonly #parts: TreeParts;
  readonly #files: FileCapture;
  readonly #options: PathCompareOptions;

  constructor(parts: TreeParts, files: FileCapture, options: PathCompareOptions) {
    this.#parts = parts;
    this.#files = files;
    this.#options = options;
  }

  /**
   * `list`: a directory is listed, also one that is known; `rest`: from where a pass before had no more time. Of everything
   * but a large file all is said when this returns. changed: it did not stand still.
   */
  compare(path: TreePath, list: boolean | "rest"): Captured | Promise<Captured> {
    const { own, selection, problems, clock } = this.#parts;
    const atMs = clock.now();
    let stat: BigIntStats | undefined;
    try {
      stat = this.lstat(path);
    } catch (error) {
      problems.add(path, `cannot be looked at (${errnoOf(error) ?? String(error)})`);
      return "unreadable";
    }
    if (!stat) {
      this.#rescue(path);
      return this.#gone(path);
    }
    const what = own.find(path, stat);
    if (what !== undefined) return this.#leftOut(path, `is ${what}, and not captured as a file`);
    const selected = selection.of(path, stat.isDirectory());
    if (selected === "skip") return this.#gone(path);
    if (stat.isDirectory()) return this.#directory(path, stat, { selected, list });
    if (stat.isFile()) return this.#file(path, stat, atMs);
    if (stat.isSymbolicLink()) return this.#link(path, stat, atMs);
    return this.#leftOut(path, `is ${specialKind(stat)}, which cannot be captured`);
  }

  /** Whether something stands there that is captured. */
  isCaptured(path: TreePath): boolean {
    const { own, selection } = this.#parts;
    const stat = this.lstat(path);
    if (!stat || own.find(path, stat) !== undefined) return false;
    if (selection.of(path, stat.isDirectory()) === "skip") return false;
    return stat.isDirectory() || stat.isFile() || stat.isSymbolicLink();
  }

  /** A directory's own times and rights, now. `always`: something in it was said since it was said last. */
  directoryItself(directory: TreePath, always: boolean): void {
    const stat = this.lstat(directory);
    if (stat?.isDirectory() && this.#parts.entries.get(directory)?.kind === "dir") {
      sayDirectory(this.#parts, this.#at(directory), { stat, always });
    }
  }

  /** @throws EACCES and the like */
  lstat(path: TreePath): BigIntStats | undefined {
    return lstat(this.#at(path));
  }

  #isInPlace(path: TreePath): boolean {
    return isInPlace(fsPath(this.#options.root, path));
  }

  #at(path: TreePath): Place {
    return { root: this.#options.root, path };
  }

  /** What was deleted before its turn came is sent from the descriptor that was kept of it. */
  #rescue(path: TreePath): void {
    const fd = this.#options.held?.get(path);
    if (fd === undefined || this.#isElsewhere(fd)) return;
    const onPut = (): unknown => this.#parts.touched.add(parentPath(path));
    const { root } = this.#options;
    const isWanted = (stat: BigIntStats): boolean =>
      this.#parts.own.find(path, stat) === undefined && this.#parts.selection.of(path, false) === "take";
    const rescued = this.#files.rescue(root, path, { fd, isWanted, again: this.again, onPut });
    if (rescued === "done") this.captured.add(path);
    if (rescued === "missed") this.missed.push(path);
  }

  /** It was moved within the tree since it was announced, and is captured there. */
  #isElsewhere(fd: number): boolean {
    const found = whereIs(fd);
    const path = found && !found.isDeleted ? pathBelow(this.#options.root, found.file) : undefined;
    return path !== undefined && this.#parts.selection.of(path, false) === "take";
  }

  #remember(path: TreePath): void {
    if (this.#options.deadlineMs < Infinity) this.captured.add(path);
  }

  #leftOut(path: TreePath, why: string): Captured {
    this.#gone(path);
    this.#parts.problems.add(path, why);
    return "done";
  }

  #gone(path: TreePath): Captured {
    const { entries, problems, name } = this.#parts;
    problems.over(path);
    this.#files.forget(path);
    const kind = entries.get(path)?.kind;
    if (kind) this.removals.set(path, { kind: kind === "dir" ? "dir.remove" : "file.remove", tree: name, path });
    return "done";
  }

  #directory(
    path: TreePath,
    stat: BigIntStats,
    { selected, list }: { selected: Selected; list: boolean | "rest" },
  ): Captured {
    const { entries, publisher, name } = this.#parts;
    const known = entries.get(path);
    if (known && known.kind !== "dir") publisher.remove({ kind: "file.remove", tree: name, path });
    const isNew = known?.kind !== "dir";
    if (isNew && selected === "through") {
      this.#options.enter(path, { dev: stat.dev, ino: stat.ino });
      this.#options.onList(path, { anew: list !== "rest", deep: list !== false });
      return "done";
    }
    if (isNew && !this.#isInPlace(path)) return "changed";
    if (!sayDirectory(this.#parts, this.#at(path), { stat, always: false })) return "changed";
    if (isNew) this.#parts.touched.add(parentPath(path));
    const isFresh = this.#options.enter(path, { dev: stat.dev, ino: stat.ino });
    const isMoved = !isNew && wasMoved(known, stat);
    const anew = list === true || isFresh || isNew || isMoved;
    if (anew || list === "rest") this.#options.onList(path, { anew, deep: isMoved });
    return "done";
  }

  #file(path: TreePath, stat: BigIntStats, atMs: number): Captured | Promise<Captured> {
    const bytes = Number(stat.size);
    if (this.#parts.entries.get(path)?.stamp === stampOf(stat, atMs)) {
      this.#parts.problems.over(path);
      this.#remember(path);
      this.#options.onCompared(1, bytes);
      return "done";
    }
    const onPut = (): unknown => this.#parts.touched.add(parentPath(path));
    const early = this.#options.early?.(path, stat);
    const captured = this.#files.capture(this.#options.root, path, { stat, atMs, again: this.again, onPut, early });
    this.#options.onCompared(1, bytes);
    if (captured === "done") this.#remember(path);
    return captured;
  }

  #link(path: TreePath, stat: BigIntStats, atMs: number): Captured {
    const { entries, publisher, name, problems } = this.#parts;
    this.#options.onCompared(1, 0);
    const stamp = stampOf(stat, atMs);
    const known = entries.get(path);
    if (known?.stamp === stamp) {
      this.#remember(path);
      return "done";
    }
    if (!hasKnownParent(this.#parts, this.#at(path))) return "changed";
    const target = readLink(fsPath(this.#options.root, path));
    const now = this.lstat(path);
    if (target === undefined || !now || !sameStat(now, stat) || !this.#isInPlace(path)) return "changed";
    if (known?.kind === "dir") publisher.remove({ kind: "dir.remove", tree: name, path });
    const { uid, gid, mtimeNs } = metadataOf(stat);
    if (publisher.put({ kind: "link.put", tree: name, path, target, uid, gid, mtimeNs }, { stamp })) {
      this.#parts.touched.add(parentPath(path));
    }
    this.#remember(path);
    problems.over(path);
    return "done";
  }
}

/** Another directory took its place, or it was away for a while: what is in it may be other than it was. */
function wasMoved(known: Entry, stat: BigIntStats): boolean {
  if (inodeNumberOf(known.stamp) !== stat.ino) return true;
  const [, , mtimeNs, ctimeNs, mode, uid, gid] = known.stamp.split(" ");
  const isOnlyCtime =
    mtimeNs === String(stat.mtimeNs) &&
    mode === String(stat.mode) &&
    uid === String(stat.uid) &&
    gid === String(stat.gid);
  return isOnlyCtime && ctimeNs !== String(stat.ctimeNs);
}

/** Undefined: it is no link any more. */
function readLink(file: Buffer): string | undefined {
  try {
    return byteString(fs.readlinkSync(file, { encoding: "buffer" }));
  } catch {
    return undefined;
  }
}

function specialKind(stat: BigIntStats): string {
  if (stat.isFIFO()) return "a FIFO";
  return stat.isSocket() ? "a socket" : "a device";
}
