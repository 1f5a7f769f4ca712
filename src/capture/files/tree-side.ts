import type { Logger } from "pino";

import { joinPath, type TreePath } from "../../event/tree-path.ts";
import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import type { TreeCaptureStatus } from "../capture-agent.ts";
import { DirtyPaths } from "./dirty-paths.ts";
import { Entering } from "./entering.ts";
import { FirstSight } from "./first-sight.ts";
import { type Debounce, Outstanding } from "./outstanding.ts";
import type { Fetched, Moments } from "./sight.ts";
import type { Dirty, Findings, LookOptions, Removal, TreeCapture } from "./tree-seam.ts";
import { TreeScans } from "./tree-scans.ts";
import { TreeWatch } from "./tree-watch.ts";
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
  readonly #outstanding: Outstanding;
  readonly #sight: FirstSight;
  readonly #entering: Entering;
  readonly #unwatched: Unwatched;

  constructor(options: TreeSideOptions) {
    const { capture, moments, stop } = options;
    this.capture = capture;
    this.#options = options;
    this.#outstanding = new Outstanding({ ...options, reads: (path) => capture.reads(path) });
    this.#watch = this.#watchTree();
    this.#entering = new Entering(this.#watch);
    this.#unwatched = new Unwatched({ ...options, tree: capture, watch: this.#watch });
    this.#sight = new FirstSight({
      capture,
      moments,
      enter: (directory, identity) => this.#entering.early(directory, identity),
      onFound: (directory, name) => this.#outstanding.dirty.mark(directory, name),
    });
    this.scans = new TreeScans({
      ...options,
      tree: capture,
      scan: async (progress) => {
        const { isLost } = this.scans;
        this.#take(await capture.scan({ ...this.#lookOptions(stop), progress }));
        // What passed unseen may have been there until the scan came to its place.
        if (isLost) this.#sight.lose();
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
    return !this.scans.halted && !this.scans.isLost && this.#outstanding.isDone;
  }

  /** When files are to be looked at for their own sake: no commit waits. */
  dueMs(debounce: Debounce): number {
    const announcedMs = this.scans.halted ? Infinity : this.#outstanding.announcedDueMs(debounce);
    return Math.min(announcedMs, this.scans.dueMs, this.#outstanding.unsettledDueMs, this.#unwatched.dueMs);
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
      this.#entering.leaveVanished((directory) => this.#sight.isThere(directory));
    } catch (error) {
      this.#fail(error);
    }
    // What was in it went before it was listed, or is announced from here on.
    if (this.#entering.takeLate()) this.#sight.lose();
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
    return this.#outstanding.awaited;
  }

  /** Some of them took too long, or what passed unseen did. */
  get isBehind(): boolean {
    return (this.scans.isLost && !this.scans.halted) || this.#outstanding.isBehind;
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
      dirty: this.#outstanding.count,
      restless: this.#outstanding.restless,
      rescans: Math.max(0, count - 1),
      scan: progress,
    };
  }

  [Symbol.dispose](): void {
    this.#sight[Symbol.dispose]();
    this.#watch[Symbol.dispose]();
  }

  #watchTree(): TreeWatch {
    const { capture, backend } = this.#options;
    return new TreeWatch({
      root: capture.root,
      backend,
      onDirty: (directory, name, kind) => {
        this.#outstanding.announced(directory, name);
        this.#sight.announced(joinPath(directory, name), kind);
      },
      onAllDirty: (directory, about) => {
        this.#outstanding.announcedOf(directory);
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

  async #look(deadlineMs: number, rescuing: boolean): Promise<void> {
    const { clock } = this.#options;
    this.#unwatched.mark(this.#outstanding.dirty, this.scans.tookMs);
    const { dirty, again } = this.#outstanding.take();
    const { held, unheld } = this.#sight.take();
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

  #lookOptions(signal: AbortSignal): LookOptions {
    return {
      signal,
      enter: (directory, identity) => this.#entering.met(directory, identity),
    };
  }

  #take({ removals, unsettled, late }: Findings, { givenUp } = { givenUp: false }): void {
    const gone = removals.filter(({ kind }) => kind === "dir.remove").map(({ path }) => path);
    this.#watch.leave(new Set(gone));
    if (removals.length > 0) this.#options.onRemovals(removals);
    // The log has not what is there.
    for (const path of [...unsettled, ...late]) this.#sight.announced(path, "change");
    this.#outstanding.left({ unsettled, late }, { givenUp });
  }
}

function dirtyOf(paths: Iterable<TreePath>): Dirty {
  const dirty = new DirtyPaths();
  for (const path of paths) dirty.markPath(path);
  return dirty.take();
}
