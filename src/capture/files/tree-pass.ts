import type { BigIntStats } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";

import { type ByteString, joinPath, parentPath, type TreePath, TREE_ROOT } from "../../event/tree-path.ts";
import { sleep } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { type EarlyRead, EarlyReads } from "./early-reads.ts";
import { inodeNumberOf } from "./entry.ts";
import type { Captured, FileCapture } from "./file-capture.ts";
import { Listings } from "./listings.ts";
import { PathCompare, type PathCompareOptions } from "./path-compare.ts";
import type { TreeParts } from "./tree-parts.ts";
import type { Dirty, Findings, LookOptions } from "./tree-seam.ts";

/** The event loop gets its turn after this long. */
const TURN_MS = 8;
/** A file that was written while it was read is read again at once so many times, then after these pauses. */
const READS_AT_ONCE = 3;
/** To read fewer files early costs more than it saves. */
const EARLY_NAMES = 16;
/** Before every other. */
const FIRST_NAME = "" as ByteString;
/** Directories that come next. */
const EARLY_DIRECTORIES = 2;
/** Other names of a file lead to each other again while it is written. */
const MOST_ROUNDS = 3;
const PAUSES_MS = [10, 20, 40, 80, 160];

export interface PassOptions extends LookOptions {
  /** Monotonic; Infinity for a scan. */
  readonly deadlineMs: number;
  /** Real path of the tree. */
  readonly root: string;
  /**
   * Directories that are known and not listed: a pass before had no time for them. After which name; what comes before was
   * compared since the directory was entered, or is late itself.
   */
  readonly unlisted: Map<TreePath, ByteString>;
  readonly onCompared: (files: number, bytes: number) => void;
}

/** One comparison of a tree, or of parts of it, with what the log says: sends what is new, and finds what is gone. */
export class TreePass {
  readonly #parts: TreeParts;
  readonly #files: FileCapture;
  readonly #options: PassOptions;
  readonly #compare: PathCompare;
  readonly #unsettled = new Set<TreePath>();
  readonly #late = new Set<TreePath>();
  /** Directories to be listed, the next one last; `deep`: and those below them. */
  readonly #pending: { readonly directory: TreePath; readonly deep: boolean }[] = [];
  /** Files that did not stand still. */
  readonly #restless = new Set<TreePath>();
  readonly #listings: Listings;
  /** Of a scan: what comes next is read before. */
  #early: EarlyReads | undefined;
  #turnMs: number;

  constructor(parts: TreeParts, files: FileCapture, options: PassOptions) {
    this.#parts = parts;
    this.#files = files;
    this.#options = options;
    this.#turnMs = parts.clock.monotonic();
    this.#listings = new Listings(parts, options.root);
    const onList: PathCompareOptions["onList"] = (directory, { anew, deep }) => {
      this.#pending.push({ directory, deep: deep || this.#isScan || options.unlisted.has(directory) });
      if (anew || !options.unlisted.has(directory)) options.unlisted.set(directory, FIRST_NAME);
    };
    const early = (path: TreePath, stat: BigIntStats): EarlyRead | undefined => this.#early?.take(path, stat);
    this.#compare = new PathCompare(parts, files, { ...options, onList, early });
  }

  get findings(): Findings {
    const { removals } = this.#compare;
    const outermost = [...removals.values()].filter(({ path }) => !isBelowAny(path, removals));
    return {
      removals: outermost,
      unsettled: [...this.#unsettled],
      late: [...this.#late],
      captured: this.#compare.captured,
      missed: this.#compare.missed,
    };
  }

  /** Compares everything. */
  async all(): Promise<void> {
    const { own, publisher, selection, logger } = this.#parts;
    await using early = new EarlyReads({
      root: this.#options.root,
      patterns: selection.patterns,
      nameKey: publisher.nameKey,
      ownInodes: () => own.inodes,
      onFailure: (error) =>
        logger.warn({ error: String(error) }, "files are not read ahead of the scan: it takes longer"),
    });
    this.#early = early;
    await this.#path(TREE_ROOT, true);
    await this.finish();
  }

  /** Compares these, and what is new below them. */
  async some(dirty: Dirty): Promise<void> {
    for (const directory of [...dirty.keys()].sort()) {
      const names = dirty.get(directory) ?? "all";
      if (!(await this.#isThere(directory))) continue;
      if (names === "all") await this.#path(directory, true);
      else {
        for (const name of names) await this.#path(joinPath(directory, name), false);
        this.#compare.directoryItself(directory, false);
      }
    }
    await this.finish();
  }

  /** Whether what was seen to be gone still is, or is something that is not captured. */
  isGone(path: TreePath): boolean {
    if (!this.#compare.isCaptured(path)) return true;
    // Where upper and lower case are the same, another name may have led to it.
    return path !== TREE_ROOT && !this.#listings.has(path);
  }

  /** Something in this directory was said to be gone: its own times come after it. */
  touch(directory: TreePath): void {
    this.#parts.touched.add(directory);
  }

  lookAgain(paths: Iterable<TreePath>): void {
    for (const path of paths) this.#compare.again.add(path);
  }

  /** Whether a directory is the one that is known; if not, what stands on the way to it is compared. */
  async #isThere(directory: TreePath): Promise<boolean> {
    const { entries } = this.#parts;
    if (directory === TREE_ROOT && entries.get(directory)?.kind !== "dir") {
      await this.#path(TREE_ROOT, false);
      return entries.get(TREE_ROOT)?.kind === "dir";
    }
    for (let at = directory; at !== TREE_ROOT; at = parentPath(at)) {
      if (entries.get(parentPath(at))?.kind !== "dir") continue;
      const known = entries.get(at);
      const stat = known?.kind === "dir" ? this.#compare.lstat(at) : undefined;
      if (at === directory && known && stat?.isDirectory() && inodeNumberOf(known.stamp) === stat.ino) return true;
      await this.#path(at, false);
      return false;
    }
    return true;
  }

  async #path(path: TreePath, list: boolean): Promise<void> {
    if (this.#isLate) {
      if (list) this.#options.unlisted.set(path, FIRST_NAME);
      this.#late.add(path);
      return;
    }
    const { unlisted } = this.#options;
    const captured = this.#compare.compare(path, list || (unlisted.has(path) && "rest"));
    await this.#outcome(path, typeof captured === "string" ? captured : await this.#waitFor(captured));
    await this.#turn();
  }

  async #outcome(path: TreePath, first: Captured | "late"): Promise<void> {
    let captured = first;
    for (let reads = 1; captured === "changed" && reads < READS_AT_ONCE; reads += 1) {
      const again = this.#compare.compare(path, false);
      captured = typeof again === "string" ? again : await this.#waitFor(again);
    }
    if (captured === "changed") this.#restless.add(path);
    else this.#restless.delete(path);
    if (captured === "late") this.#unsettled.add(path);
  }

  /** A large file is read on behind a look that has no more time. */
  async #waitFor(captured: Promise<Captured>): Promise<Captured | "late"> {
    const { deadlineMs } = this.#options;
    if (deadlineMs === Infinity) return captured;
    const enough = new AbortController();
    const late = sleep(Math.max(0, deadlineMs - this.#parts.clock.monotonic()), enough.signal).then(
      () => "late" as const,
    );
    return Promise.race([captured, late]).finally(() => enough.abort());
  }

  get #isLate(): boolean {
    return this.#parts.clock.monotonic() >= this.#options.deadlineMs;
  }

  /** Lists what is to be listed, comes back to what did not stand still, and sends everything. */
  async finish(): Promise<void> {
    const { again } = this.#compare;
    for (let round = 1; ; round += 1) {
      await this.#listPending();
      if (again.size === 0 || round > MOST_ROUNDS) break;
      const paths = [...again];
      again.clear();
      for (const path of paths) await this.#path(path, false);
    }
    for (const path of again) this.#late.add(path);
    await this.#settle();
    this.#sayTouched();
    await this.#parts.publisher.flush();
  }

  #sayTouched(): void {
    const { touched } = this.#parts;
    for (const directory of touched) this.#compare.directoryItself(directory, true);
    touched.clear();
  }

  async #settle(): Promise<void> {
    const { clock } = this.#parts;
    for (const pauseMs of PAUSES_MS) {
      if (this.#restless.size === 0 || clock.monotonic() + pauseMs >= this.#options.deadlineMs) break;
      await sleep(pauseMs, this.#options.signal);
      for (const path of this.#restless) await this.#path(path, false);
      await this.#listPending();
    }
    for (const path of this.#restless) {
      this.#unsettled.add(path);
      this.#files.unsettled(path);
    }
  }

  async #listPending(): Promise<void> {
    const { unlisted } = this.#options;
    for (let next = this.#pending.pop(); next !== undefined; next = this.#pending.pop()) {
      const { directory, deep } = next;
      if (!this.#isLate && (await this.#list(directory, deep))) unlisted.delete(directory);
      else this.#late.add(directory);
      this.#early?.done(directory);
    }
  }

  /** Compares everything that is in a directory. false: there was no time for all of it. */
  async #list(directory: TreePath, deep: boolean): Promise<boolean> {
    const { entries } = this.#parts;
    const stat = this.#compare.lstat(directory);
    if (!stat?.isDirectory()) {
      await this.#path(directory, false);
      return true;
    }
    this.#options.enter(directory, { dev: stat.dev, ino: stat.ino });
    const names = this.#listings.names(directory);
    if (!names) return true;
    crashPoint("tree: directory listed");
    if (names.length >= EARLY_NAMES) this.#readEarly(directory);
    for (const soon of this.#pending.slice(-EARLY_DIRECTORIES)) this.#readEarly(soon.directory);
    const after = (!this.#isScan && this.#options.unlisted.get(directory)) || FIRST_NAME;
    const known = entries.inDirectory(directory);
    let next = known.next();
    while (!next.done && next.value[0] <= after) next = known.next();
    for (const name of names) {
      if (name <= after) continue;
      for (; !next.done && next.value[0] < name; next = known.next())
        await this.#path(joinPath(directory, next.value[0]), true);
      if (!next.done && next.value[0] === name) next = known.next();
      const path = joinPath(directory, name);
      const isRead = this.#early?.reach(path);
      if (isRead) await isRead;
      await this.#path(path, deep);
      if (this.#isLate) {
        this.#options.unlisted.set(directory, name);
        return false;
      }
    }
    for (; !next.done; next = known.next()) await this.#path(joinPath(directory, next.value[0]), true);
    this.#compare.directoryItself(directory, this.#parts.touched.delete(directory));
    return true;
  }

  /** Of a directory that nothing is known of: elsewhere most files are as they were. */
  #readEarly(directory: TreePath): void {
    if (this.#early && this.#parts.entries.isNew(directory)) this.#early.want(directory);
  }

  get #isScan(): boolean {
    return this.#options.deadlineMs === Infinity;
  }

  async #turn(): Promise<void> {
    const { clock, own, publisher } = this.#parts;
    await publisher.room();
    if (clock.monotonic() - this.#turnMs < TURN_MS) return;
    await nextTurn();
    // Databases may have joined the set.
    own.refresh(this.#options.root);
    this.#turnMs = clock.monotonic();
    this.#options.signal.throwIfAborted();
  }
}

/** Whether a directory that holds it is among these. */
function isBelowAny(path: TreePath, directories: ReadonlyMap<TreePath, unknown>): boolean {
  for (let at = path; at !== TREE_ROOT;) {
    at = parentPath(at);
    if (directories.has(at)) return true;
  }
  return false;
}
