import fs from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";

import { type ByteString, fsPath, joinPath, parentPath, type TreePath } from "../../event/tree-path.ts";
import { heldLimit, holdFile, LetGo, whereIs } from "./held-file.ts";
import {
  type Fetched,
  hasMoved,
  isFinal,
  isMissed,
  isPresent,
  isWithin,
  type Loss,
  type Moments,
  newSight,
  type Sight,
} from "./sight.ts";
import type { Identity, TreeCapture } from "./tree-seam.ts";

/** Files that are held at most. */
const MOST_HELD = 10_000;
/** Between two turns of the event loop so many are looked at, or the announcements would wait for it. */
const SIGHTS_A_TURN = 4000;
/** A directory with more in it is left to the look. */
const MOST_NAMES = 1000;
/** What is announced of more names than these, while nobody looks, counts as lost. */
const MOST_SIGHTS = 200_000;
/** Of more than so many it is only remembered when the first and the last may have been. */
const MOST_LOSSES = 100;

export interface FirstSightOptions {
  readonly capture: Pick<TreeCapture, "root" | "captures" | "mayCapture" | "pathOf">;
  readonly moments: Moments;
  /** Watches a directory. False: it is watched already, or cannot be. */
  readonly enter: (directory: TreePath, identity: Identity) => boolean;
  /** What stands in a directory that is watched from now on. */
  readonly onFound: (directory: TreePath, name: ByteString) => void;
}

/** What a look is given. */
export interface Taken {
  /** Descriptors of files that were there. */
  readonly held: ReadonlyMap<TreePath, number>;
  /** Was there, and is not held. */
  readonly unheld: readonly TreePath[];
}

/**
 * What is done the moment something is announced, because it may be gone when its turn comes: a file is held, so that its
 * content can be read when it is deleted, and a new directory is watched, so that what is in it is announced.
 *
 * Knows what was lost: came and went without being held. Every coming and every going of a name is announced; so if nothing
 * is there at one announcement, what was held or captured before has gone; if at more than one, something else came in between.
 */
export class FirstSight implements Disposable {
  readonly #options: FirstSightOptions;
  /** Not taken since. */
  readonly #sights = new Map<TreePath, Sight>();
  readonly #held = new Map<TreePath, number>();
  /** Of those that a look has taken over. */
  readonly #taken = new Map<TreePath, number>();
  #losses: Loss[] = [];
  /** Directories in which not everything was seen when they were watched, until a look has. */
  #unlisted = new Set<TreePath>();
  readonly #letGo = new LetGo();
  readonly #most = heldLimit(MOST_HELD);
  /** Was missed by the last announcement: the next one may tell where it is. */
  #leaving: Sight | undefined;
  #seenInTurn = 0;

  constructor(options: FirstSightOptions) {
    this.#options = options;
  }

  /** rename: the name came or went. change: what it names is another. */
  announced(path: TreePath, kind: "rename" | "change"): void {
    const { capture, moments } = this.#options;
    const before = this.#leaving;
    this.#leaving = undefined;
    if (!capture.mayCapture(path)) return;
    const known = this.#sights.get(path);
    if (!known && this.#sights.size >= MOST_SIGHTS) return this.lose();
    const sight = known ?? newSight(path, moments.passed);
    this.#sights.set(path, sight);
    sight.last = moments.passed;
    if (kind === "rename") sight.arrival = { isChanged: false };
    else sight.arrival.isChanged = true;
    // A descriptor has what is written to the file.
    if (kind === "rename" || sight.inode === undefined) this.#see(sight, kind, before);
  }

  /** Anything may have come and gone until now. */
  lose(): void {
    this.#lost({ born: 0, last: this.#options.moments.sent });
  }

  /** Whether what became of something that is gone will be known when the next sentinel has passed. */
  get isOpen(): boolean {
    return this.#sights.values().some((sight) => !isFinal(sight, this.#options.moments));
  }

  /** To be asked when it is not open: whether something was lost that may have its row in commits that were fetched so. */
  hasLost(fetched: Fetched): boolean {
    if (this.#losses.some((loss) => isWithin(loss, fetched))) return true;
    return this.#sights.values().some((sight) => isMissed(sight) && isWithin(sight, fetched));
  }

  /** What was lost before `from` has neither its row nor the end of it in later commits: all that were made before it have passed. */
  settle(from: number): void {
    this.#losses = this.#losses.filter(({ last }) => last >= from);
    for (const [path, sight] of this.#sights) {
      if (sight.last < from && isMissed(sight)) this.#sights.delete(path);
    }
  }

  /** For the look that begins. */
  take(): Taken {
    const unheld: TreePath[] = [];
    for (const [path, fd] of this.#held) {
      this.#letGo.add(this.#taken.get(path));
      this.#taken.set(path, fd);
    }
    this.#held.clear();
    for (const sight of this.#sights.values()) {
      sight.inode = undefined;
      if (sight.misses === 0 && sight.isUnheld) unheld.push(sight.path);
      if (!isFinal(sight, this.#options.moments)) continue;
      if (isMissed(sight)) this.#lost(sight);
      this.#sights.delete(sight.path);
    }
    return { held: this.#taken, unheld };
  }

  isThere(path: TreePath): boolean {
    return lstat(fsPath(this.#options.capture.root, path)) !== undefined;
  }

  /** What was taken is in the log, or nobody asks for it any more. */
  release(): void {
    for (const fd of this.#taken.values()) this.#letGo.add(fd);
    this.#letGo.flush();
    this.#taken.clear();
    this.#unlisted = new Set();
  }

  [Symbol.dispose](): void {
    this.take();
    this.release();
  }

  #lost({ born, last }: Loss): void {
    const known = this.#losses.at(-1);
    if (known && known.born <= born && known.last >= last) return;
    this.#losses.push({ born, last });
    if (this.#losses.length > MOST_LOSSES) this.#losses = [spanOf(this.#losses)];
  }

  #see(sight: Sight, kind: "rename" | "change", before?: Sight): void {
    const { capture, moments } = this.#options;
    if (this.#seenInTurn === 0) void nextTurn().then(() => (this.#seenInTurn = 0));
    this.#seenInTurn += 1;
    if (this.#seenInTurn > SIGHTS_A_TURN) return void (sight.isUnheld = true);
    const file = fsPath(capture.root, sight.path);
    const stat = lstat(file);
    if (!stat && kind === "rename") return this.#miss(sight);
    if (!stat) return void (sight.isUnheld = true);
    const isCarried = sight.explained > 1;
    isPresent(sight);
    if (stat.isDirectory()) this.#enter(sight.path);
    else if (stat.isFile()) this.#hold(sight, file, stat.ino);
    else sight.isUnheld = stat.isSymbolicLink();
    if (before && kind === "rename" && !isCarried && stat.isFile() && stat.size > 0)
      hasMoved(before, sight.arrival, moments);
  }

  #hold(sight: Sight, file: Buffer, inode: number): void {
    const { path } = sight;
    if (sight.inode === inode) return;
    this.#letGo.add(this.#held.get(path));
    this.#held.delete(path);
    const fd = this.#held.size + this.#taken.size < this.#most ? holdFile(file) : undefined;
    sight.inode = fd === undefined ? undefined : inode;
    sight.isUnheld = fd === undefined;
    if (fd !== undefined) this.#held.set(path, fd);
  }

  #miss(sight: Sight): void {
    const { path } = sight;
    sight.misses += 1;
    sight.missedAt = this.#options.moments.sent;
    if (this.#unlisted.has(parentPath(path))) sight.isUnheld = true;
    if (sight.misses === 1) this.#follow(sight);
    if (isMissed(sight)) this.#leaving = sight;
  }

  /** What is held of it was moved to another place, about which nothing was announced yet: it is held for that one. */
  #follow({ path }: Sight): void {
    const { capture, moments } = this.#options;
    const fd = this.#held.get(path) ?? this.#taken.get(path);
    const found = fd === undefined ? undefined : whereIs(fd);
    const to = found && capture.pathOf(found.file);
    if (fd === undefined || to === undefined || to === path || !capture.mayCapture(to)) return;
    this.#held.delete(path);
    this.#taken.delete(path);
    this.#letGo.add(this.#held.get(to));
    this.#held.set(to, fd);
    const sight = this.#sights.get(to) ?? newSight(to, moments.passed);
    isPresent(sight);
    // That it came there and that it went.
    sight.explained = 2;
    sight.inode = fs.fstatSync(fd).ino;
    this.#sights.set(to, sight);
  }

  #enter(directory: TreePath): void {
    const { capture, enter, onFound, moments } = this.#options;
    const identity = fs.lstatSync(fsPath(capture.root, directory), { bigint: true, throwIfNoEntry: false });
    if (!identity?.isDirectory() || !capture.captures(directory, identity) || !enter(directory, identity)) return;
    // What came and went before has left no trace.
    this.#lost({ born: moments.passed, last: moments.sent });
    const names = namesIn(fsPath(capture.root, directory));
    if (names.length > MOST_NAMES) return void this.#unlisted.add(directory);
    for (const name of names) {
      onFound(directory, name);
      this.announced(joinPath(directory, name), "rename");
      this.#leaving = undefined;
    }
  }
}

function spanOf(losses: readonly Loss[]): Loss {
  const [born, last] = [losses.map((loss) => loss.born), losses.map((loss) => loss.last)];
  return { born: Math.min(...born), last: Math.max(...last) };
}

function lstat(file: Buffer): fs.Stats | undefined {
  try {
    return fs.lstatSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function namesIn(directory: Buffer): ByteString[] {
  try {
    return fs.readdirSync(directory, { encoding: "latin1" });
  } catch {
    return [];
  }
}
