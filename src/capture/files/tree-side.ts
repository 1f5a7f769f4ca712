import type { Logger } from "pino";

import { joinPath, type TreePath } from "../../event/tree-path.ts";
import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import type { TreeCaptureStatus } from "../capture-agent.ts";
import { DirtyPaths } from "./dirty-paths.ts";
import { FirstSight } from "./first-sight.ts";
import type { Fetched, Moments } from "./sight.ts";
import type { Dirty, Findings, Identity, LookOptions, Removal, TreeCapture } from "./tree-seam.ts";
import { TreeScans } from "./tree-scans.ts";
import { TreeWatch } from "./tree-watch.ts";
import { Unsettled } from "./unsettled.ts";
import { Unwatched } from "./unwatched.ts";
import type { WatchBackend } from "./watch-backend.ts";

/** What nobody waits for any more gets so long a look when commits pass. */
const UNSETTLED_LOOK_MS = 20;

export interface TreeSideOptions {
  readonly capture: TreeCapture;
  readonly backend: WatchBackend;
  readonly moments: Moments;
  readonly rescanMs: number;
  readonly orderMaxWaitMs: number;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Abort: scans end. */
  readonly stop: AbortSignal;
  /** Abort: looks end, too. */
  readonly abandon: AbortSignal;
  /** Something was announced. */
  readonly onEvent: () => void;
  /** There is something to do at once. */
  readonly wake: () => void;
  readonly onRemovals: (removals: readonly Removal[]) => void;
}

/** One tree: what may have changed in it, and when it is looked at. */
export class TreeSide implements Disposable {
  readonly capture: TreeCapture;
  readonly scans: TreeScans;
  readonly #options: TreeSideOptions;
  readonly #watch: TreeWatch;
  readonly #dirty = new DirtyPaths();
  readonly #sight: FirstSight;
  readonly #unsettled = new Unsettled();
  /** The last look had no time for these. */
  #late: readonly TreePath[] = [];
  #dirtySinceMs: number | undefined;
  #dirtyLastMs = 0;
  /** Watched since they were announced, and not met by a look since. */
  readonly #early = new Set<TreePath>();
  /** Watched for the first time by a look or a scan: what went before was not announced. */
  #hasEntered = false;
  readonly #unwatched: Unwatched;

  constructor(options: TreeSideOptions) {
    const { capture, moments, stop } = options;
    this.capture = capture;
    this.#options = options;
    this.#watch = this.#watchTree();
    this.#unwatched = new Unwatched({ ...options, tree: capture, watch: this.#watch });
    this.#sight = new FirstSight({
      capture,
      moments,
      enter: (directory, identity) => this.#enterEarly(directory, identity),
      onFound: (directory, name) => this.#dirty.mark(directory, name),
    });
    this.scans = new TreeScans({
      ...options,
      tree: capture,
      scan: async (progress) => {
        this.#take(await capture.scan({ ...this.#lookOptions(stop), progress }));
        crashPoint("tree: scanned");
      },
    });
  }

  begin(): void {
    this.scans.begin();
    this.#watch.begin();
  }

  /** Changes may have passed unseen: all of the tree is compared. */
  lose(why: string): void {
    this.#sight.lose();
    this.scans.lose(why);
  }

  /** Everything announced, and everything that may have passed unseen, is in the log. */
  get isSettled(): boolean {
    return !this.scans.halted && !this.scans.isLost && this.#late.length === 0 && this.#unsettled.size === 0;
  }

  /** When files are to be looked at for their own sake: no commit waits. */
  dueMs({ trailingMs, longestMs }: { trailingMs: number; longestMs: number }): number {
    const due: number[] = [this.scans.dueMs, this.#unsettled.dueMs, this.#unwatched.dueMs];
    if (this.#dirtySinceMs !== undefined && !this.scans.halted) {
      due.push(Math.min(this.#dirtyLastMs + trailingMs, this.#dirtySinceMs + longestMs));
    }
    return Math.min(...due);
  }

  /**
   * Looks at everything that may have changed before now, and waits for it until `deadlineMs`. `rescuing`: what was deleted
   * before its turn came is sent.
   */
  async look(deadlineMs: number, { rescuing }: { readonly rescuing: boolean }): Promise<void> {
    this.scans.startIfDue();
    if (this.scans.isLost) await this.scans.foundBy(deadlineMs);
    if (this.scans.halted || this.scans.count === 0) return void this.#sight.take();
    try {
      await this.#look(deadlineMs, rescuing);
      this.#leaveVanished();
    } catch (error) {
      this.#fail(error);
    }
    // What was in it went before it was listed, or is announced from here on.
    if (this.#hasEntered) this.#sight.lose();
    this.#hasEntered = false;
  }

  /** Nobody asks any more for what was deleted before the last look. */
  release(): void {
    this.#sight.release();
  }

  /** Whether directories of it are looked at again and again, because they cannot be watched. */
  get isPolled(): boolean {
    return !this.#unwatched.isEmpty;
  }

  /** Whether another sentinel has to pass before it can be told what was lost. */
  get isOpen(): boolean {
    return this.#sight.isOpen;
  }

  /** Something was gone before it could be held or read, and may have a row in commits that were fetched so. */
  hasLost(fetched: Fetched): boolean {
    return this.#sight.hasLost(fetched);
  }

  /** All commits made before this sentinel have passed. */
  settle(from: number): void {
    this.#sight.settle(from);
  }

  /** Files that the log will have as they are, or later: they may stand still soon, are being read, or were not looked at. */
  get awaited(): ReadonlySet<TreePath> {
    return new Set([...this.#split.waitsFor, ...this.#split.reading, ...this.#late]);
  }

  /** Some of them took too long, or what passed unseen did. */
  get isBehind(): boolean {
    if (this.scans.isLost && !this.scans.halted) return true;
    return this.#late.length + this.#split.reading.length > 0;
  }

  /** Files that do not stand still: `restless` of them nobody waits for. */
  get #split(): { waitsFor: readonly TreePath[]; reading: readonly TreePath[]; restless: number } {
    const { waitsFor, overdue, reading } = this.#unsettled.split(this.#options.clock.monotonic());
    return { waitsFor, reading, restless: overdue.size - reading.length };
  }

  async remove(removals: readonly Removal[]): Promise<void> {
    if (this.scans.halted) return;
    try {
      await this.capture.remove(removals);
    } catch (error) {
      this.#fail(error);
    }
  }

  status(): TreeCaptureStatus {
    const { name, root } = this.capture;
    const { halted: failure, count, problem, progress } = this.scans;
    const figures = this.capture.figures();
    const halted = failure && `${failure.code}: ${failure.message}`;
    return {
      name,
      path: root,
      state: halted === undefined ? (count === 0 ? "scanning" : "following") : "halted",
      ...figures,
      problem: halted ?? problem ?? this.#unwatched.problem ?? figures.problem,
      dirty: this.#dirty.count + this.#unsettled.size,
      restless: this.#split.restless,
      rescans: Math.max(0, count - 1),
      scan: progress,
    };
  }

  [Symbol.dispose](): void {
    this.#sight[Symbol.dispose]();
    this.#watch[Symbol.dispose]();
  }

  #watchTree(): TreeWatch {
    const { capture, backend, onEvent } = this.#options;
    return new TreeWatch({
      root: capture.root,
      backend,
      onEvent,
      onDirty: (directory, name, kind) => {
        this.#dirty.mark(directory, name);
        this.#marked();
        this.#sight.announced(joinPath(directory, name), kind);
      },
      onAllDirty: (directory, about) => {
        this.#dirty.markAll(directory);
        this.#marked();
        if (about) this.#sight.announced(about.path, about.kind);
        else this.#sight.lose();
      },
      onFailure: (error) => this.lose(`the watch failed: ${String(error)}`),
    });
  }

  #fail(error: unknown): void {
    this.#sight.lose();
    this.scans.fail(error);
  }

  #marked(): void {
    this.#dirtyLastMs = this.#options.clock.monotonic();
    if (this.#dirtySinceMs !== undefined) return;
    this.#dirtySinceMs = this.#dirtyLastMs;
    this.#options.wake();
  }

  async #look(deadlineMs: number, rescuing: boolean): Promise<void> {
    const { clock } = this.#options;
    this.#unwatched.mark(this.#dirty, this.scans.tookMs);
    this.#dirtySinceMs = undefined;
    const { waitsFor, overdue, again } = this.#unsettled.look(clock.monotonic());
    for (const path of waitsFor) this.#dirty.markPath(path);
    const dirty = this.#dirty.take(overdue);
    const { held, unheld } = this.#sight.take();
    this.#late = [];
    if (dirty.size > 0) {
      const findings = await this.#lookAt(dirty, { deadlineMs, ...(rescuing ? { held } : {}) });
      const isGone = (path: TreePath): boolean => !findings.captured.has(path) && !this.#sight.isThere(path);
      // Without a commit that waits what was deleted is not sent; its row may be in one that is not known yet.
      if (findings.missed.length > 0 || unheld.some(isGone) || (!rescuing && held.keys().some(isGone)))
        this.#sight.lose();
      this.#take(findings, { givenUp: clock.monotonic() >= deadlineMs });
    }
    if (again.size === 0) return;
    const shortly = { deadlineMs: clock.monotonic() + UNSETTLED_LOOK_MS };
    const { late, ...found } = await this.#lookAt(dirtyOf(again), shortly);
    this.#take({ ...found, unsettled: [...found.unsettled, ...late], late: [] });
  }

  async #lookAt(dirty: Dirty, options: Pick<LookOptions, "held"> & { deadlineMs: number }): Promise<Findings> {
    return this.capture.look(dirty, { ...this.#lookOptions(this.#options.abandon), ...options });
  }

  /** A directory that was announced is watched at once: what comes and goes in it until it is looked at would not be seen. */
  #enterEarly(directory: TreePath, identity: Identity): boolean {
    if (!this.#watch.enter(directory, identity) || !this.#watch.watches(directory)) return false;
    this.#early.add(directory);
    return true;
  }

  /** Directories that were watched early and are gone before a look met them. */
  #leaveVanished(): void {
    const vanished = [...this.#early].filter((directory) => !this.#sight.isThere(directory));
    this.#watch.leave(new Set(vanished));
    for (const directory of vanished) this.#early.delete(directory);
  }

  #lookOptions(signal: AbortSignal): LookOptions {
    return {
      signal,
      enter: (directory, identity) => {
        const entered = this.#watch.enter(directory, identity);
        if (entered && this.#watch.watches(directory)) this.#hasEntered = true;
        return this.#early.delete(directory) || entered;
      },
    };
  }

  #take({ removals, unsettled, late }: Findings, { givenUp } = { givenUp: false }): void {
    const gone = removals.filter(({ kind }) => kind === "dir.remove").map(({ path }) => path);
    this.#watch.leave(new Set(gone));
    if (removals.length > 0) this.#options.onRemovals(removals);
    if (late.length > 0) {
      this.#late = late;
      for (const path of late) this.#dirty.markPath(path);
      this.#marked();
    }
    // The log has not what is there.
    for (const path of [...unsettled, ...late]) this.#sight.announced(path, "change");
    const reads = (path: TreePath): boolean => this.capture.reads(path);
    this.#unsettled.add(unsettled, this.#options.clock.monotonic(), { givenUp, reads });
  }
}

function dirtyOf(paths: Iterable<TreePath>): Dirty {
  const dirty = new DirtyPaths();
  for (const path of paths) dirty.markPath(path);
  return dirty.take();
}
