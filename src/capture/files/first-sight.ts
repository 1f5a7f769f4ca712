import fs, { constants } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";

import { type ByteString, fsPath, joinPath, type TreePath } from "../../event/tree-path.ts";
import type { Identity, TreeCapture } from "./tree-seam.ts";

/**
 * Linux's O_PATH: a descriptor that names a file without opening it. It has no effect on FIFOs and devices, and to close it drops
 * no locks of SQLite's; what it names is opened through /proc, deleted or not.
 */
const O_PATH = 0o10000000;
/** Files that are held at most, and the share of what the process may open. */
const MOST_HELD = 10_000;
const HELD_SHARE = 0.25;
const LIMITS_FILE = "/proc/self/limits";
/** Between two turns of the event loop so many are looked at, or the announcements would wait for it. */
const SIGHTS_A_TURN = 4000;
/** A directory with more in it is left to the look. */
const MOST_NAMES = 64;

export interface FirstSightOptions {
  readonly capture: Pick<TreeCapture, "root" | "captures">;
  /** Watches a directory. False: it is watched already, or cannot be. */
  readonly enter: (directory: TreePath, identity: Identity) => boolean;
  /** What stands in a directory that is watched from now on. */
  readonly onFound: (directory: TreePath, name: ByteString) => void;
}

/**
 * What is done the moment something is announced, because it may be gone when its turn comes: a file is held open, so that
 * its content can be read when it is deleted, and a new directory is watched, so that what is in it is announced.
 */
export class FirstSight implements Disposable {
  readonly #options: FirstSightOptions;
  /** Not looked at since. */
  #held = new Map<TreePath, number>();
  /** Those that a look has taken over. */
  readonly #taken = new Map<TreePath, number>();
  /** Gone, and not deleted. */
  readonly #moved = new Set<TreePath>();
  readonly #most = Math.min(MOST_HELD, Math.floor(openFilesLimit() * HELD_SHARE));
  #seenInTurn = 0;

  constructor(options: FirstSightOptions) {
    this.#options = options;
  }

  /** A name came, or went. */
  see(path: TreePath): void {
    if (this.#seenInTurn === 0) void nextTurn().then(() => (this.#seenInTurn = 0));
    this.#seenInTurn += 1;
    if (this.#seenInTurn > SIGHTS_A_TURN) return;
    const file = fsPath(this.#options.capture.root, path);
    const stat = lstat(file);
    if (stat?.isDirectory()) this.#enter(path);
    else if (stat?.isFile()) this.#hold(path, file);
    else if (!stat) this.#miss(path);
  }

  /** Whether what was there last is known to have been moved away. */
  wasMoved(path: TreePath): boolean {
    return this.#moved.has(path);
  }

  /** For the look that begins. */
  take(): ReadonlyMap<TreePath, number> {
    for (const [path, fd] of this.#held) {
      letGo(this.#taken.get(path));
      this.#taken.set(path, fd);
    }
    this.#held = new Map();
    return this.#taken;
  }

  /** What was taken is in the log, or nobody asks for it any more. */
  release(): void {
    for (const fd of this.#taken.values()) letGo(fd);
    this.#taken.clear();
    this.#moved.clear();
  }

  [Symbol.dispose](): void {
    this.take();
    this.release();
  }

  #hold(path: TreePath, file: Buffer): void {
    this.#moved.delete(path);
    letGo(this.#held.get(path));
    this.#held.delete(path);
    if (this.#held.size + this.#taken.size >= this.#most) return;
    try {
      this.#held.set(path, fs.openSync(file, O_PATH | constants.O_NOFOLLOW));
    } catch {
      // Gone again: that is announced as well.
    }
  }

  #miss(path: TreePath): void {
    const before = this.#held.get(path) ?? this.#taken.get(path);
    if (before !== undefined && fs.fstatSync(before).nlink > 0) this.#moved.add(path);
  }

  #enter(directory: TreePath): void {
    const { capture, enter, onFound } = this.#options;
    const identity = fs.lstatSync(fsPath(capture.root, directory), { bigint: true, throwIfNoEntry: false });
    if (!identity?.isDirectory() || !capture.captures(directory, identity) || !enter(directory, identity)) return;
    const names = namesIn(fsPath(capture.root, directory));
    if (names.length > MOST_NAMES) return;
    for (const name of names) {
      onFound(directory, name);
      this.see(joinPath(directory, name));
    }
  }
}

/** In another thread: to close a deleted file is what deletes it. */
function letGo(fd: number | undefined): void {
  if (fd !== undefined) fs.close(fd, () => undefined);
}

function lstat(file: Buffer): fs.Stats | undefined {
  try {
    return fs.lstatSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** 1024 when it is not told. */
function openFilesLimit(): number {
  try {
    const limit = /^Max open files\s+(\d+)/mu.exec(fs.readFileSync(LIMITS_FILE, "utf8"))?.[1];
    return limit === undefined ? 1024 : Number(limit);
  } catch {
    return 1024;
  }
}

function namesIn(directory: Buffer): ByteString[] {
  try {
    return fs.readdirSync(directory, { encoding: "latin1" });
  } catch {
    return [];
  }
}
