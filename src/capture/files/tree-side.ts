import type { Logger } from "pino";

import { joinPath, type TreePath } from "../../event/tree-path.ts";
import { type Clock, sleep } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { hasCode, type TidemarkError, toTidemarkError } from "../../runtime/errors.ts";
import type { TreeCaptureStatus } from "../capture-agent.ts";
import { DirtyPaths, type Gone } from "./dirty-paths.ts";
import { FirstSight } from "./first-sight.ts";
import { type Fetched, hasLost, isLost, isThere, isWithin, type Unseen, unseenIn } from "./lost-files.ts";
import type { Dirty, Findings, Identity, LookOptions, Removal, TreeCapture } from "./tree-seam.ts";
import { TreeWatch } from "./tree-watch.ts";
import type { WatchBackend } from "./watch-backend.ts";

/** A file that did not stand still is looked at again after this long. */
const UNSETTLED_AGAIN_MS = 250;
/** One that has not for so long, in so many looks, does not hold commits up: it gets a short look when they pass. */
const UNSETTLED_HOLDS_MS = 2000;
const UNSETTLED_HOLDS_LOOKS = 3;
const UNSETTLED_LOOK_MS = 20;
/** A tree that is halted, or could not be scanned, is scanned again after this long. */
const SCAN_AGAIN_MS = 5000;
/** A scan because of changes that passed unseen takes no more than one part in so many of the time. */
const SCAN_SHARE = 5;
/** Directories that cannot be watched are looked at this often, and take no more than one part in so many of the time. */
const POLL_MS = 2000;
const POLL_SHARE = 10;
/** Times of files come from a clock that ticks. */
const CLOCK_TICK_MS = 20;
const SYSCTL: Readonly<Record<string, string>> = {
  ENOSPC: "fs.inotify.max_user_watches",
  EMFILE: "fs.inotify.max_user_instances (and the limit of open files)",
};

/** A file that does not stand still. */
interface Unsettled {
  readonly sinceMs: number;
  readonly looks: number;
}

const GIVEN_UP: Unsettled = { sinceMs: -Infinity, looks: UNSETTLED_HOLDS_LOOKS };

export interface TreeSideOptions {
  readonly capture: TreeCapture;
  readonly backend: WatchBackend;
  readonly rescanMs: number;
  readonly orderMaxWaitMs: number;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Abort: scans end. */
  readonly stop: AbortSignal;
  /** Abort: looks end, too. */
  readonly abandon: AbortSignal;
  /** A change was announced. */
  readonly onEvent: () => void;
  /** There is something to do at once. */
  readonly wake: () => void;
  readonly onRemovals: (removals: readonly Removal[]) => void;
}

/** One tree: what may have changed in it, and when it is looked at. */
export class TreeSide implements Disposable {
  readonly capture: TreeCapture;
  readonly ready = Promise.withResolvers<void>();
  readonly #options: TreeSideOptions;
  readonly #watch: TreeWatch;
  readonly #dirty = new DirtyPaths();
  /** Did not stand still, or took too long, and since when. After a while nobody waits for them any more. */
  #unsettled = new Map<TreePath, Unsettled>();
  #unsettledDueMs = 0;
  /** The last look had no time for all of what it was to look at. */
  #isLate = false;
  #dirtySinceMs: number | undefined;
  #dirtyLastMs = 0;
  /** How often changes may have passed unseen, and how many of these times a scan has made good. The start is the first. */
  #losses = 1;
  #found = 0;
  #lostSinceMs = 0;
  #scan: Promise<void> | undefined;
  #scanProgress: { done: number; total: number } | undefined;
  #scanDueMs = 0;
  #scanTookMs = 0;
  #scans = 0;
  #halted: TidemarkError | undefined;
  #problem: string | undefined;
  #gone: readonly Gone[] = [];
  readonly #sight: FirstSight;
  /** Watched since they were announced, and not met by a look since. */
  readonly #early = new Set<TreePath>();
  /** Watched for the first time in the last look, so that what went before was not announced. */
  #entered: TreePath[] = [];
  /** Watched since they were announced, and something had gone by then. */
  #unseen: Unseen[] = [];
  /** Of which it was not announced what has changed in them. */
  #vague: readonly TreePath[] = [];
  /** When the last look and the one before it began, by the clock that files get their times from. */
  #lookNs = 0n;
  #beforeLookNs = 0n;
  #pollDueMs = 0;
  #saidLimit = 0;

  constructor(options: TreeSideOptions) {
    this.capture = options.capture;
    this.#options = options;
    this.#watch = new TreeWatch({
      root: options.capture.root,
      backend: options.backend,
      onDirty: (directory, name, kind) => {
        options.onEvent();
        this.#dirty.mark(directory, name, kind);
        this.#marked();
        if (kind === "rename") this.#sight.see(joinPath(directory, name));
      },
      onAllDirty: (directory) => {
        options.onEvent();
        this.#dirty.markAll(directory);
        this.#marked();
      },
      onFailure: (error) => this.lose(`the watch failed: ${String(error)}`),
    });
    this.#sight = new FirstSight({
      capture: options.capture,
      enter: (directory, identity) => this.#enterEarly(directory, identity),
      onFound: (directory, name) => this.#dirty.markFound(directory, name),
    });
    this.ready.promise.catch(() => undefined);
  }

  begin(): void {
    this.#lostSinceMs = this.#options.clock.monotonic();
    this.#watch.begin();
  }

  /** Changes may have passed unseen: all of the tree is compared. */
  lose(why: string): void {
    const { clock, logger, wake } = this.#options;
    if (!this.#isLost) logger.info({ tree: this.capture.name }, `scanning ${this.capture.root}: ${why}`);
    this.#loseNow();
    this.#scanDueMs = Math.min(this.#scanDueMs, clock.monotonic() + this.#scanTookMs * SCAN_SHARE);
    wake();
  }

  #loseNow(): void {
    if (!this.#isLost) this.#lostSinceMs = this.#options.clock.monotonic();
    this.#losses += 1;
  }

  /** Changes may have passed unseen, and no scan that began later is over. */
  get #isLost(): boolean {
    return this.#losses > this.#found;
  }

  /** Everything announced, and everything that may have passed unseen, is in the log. */
  get isSettled(): boolean {
    return !this.#halted && !this.#isLost && !this.#isLate && this.#unsettled.size === 0;
  }

  /** When files are to be looked at for their own sake: no commit waits. */
  dueMs({ trailingMs, longestMs }: { trailingMs: number; longestMs: number }): number {
    const due: number[] = [this.#scan ? Infinity : this.#scanDueMs];
    if (this.#dirtySinceMs !== undefined && !this.#halted) {
      due.push(Math.min(this.#dirtyLastMs + trailingMs, this.#dirtySinceMs + longestMs));
    }
    if (this.#unsettled.size > 0) due.push(this.#unsettledDueMs);
    if (this.#watch.unwatched.size > 0) due.push(this.#pollDueMs);
    return Math.min(...due);
  }

  /**
   * Looks at everything that may have changed before now, and waits for it until `deadlineMs`. `rescuing`: what was deleted
   * before its turn came is sent.
   */
  async look(deadlineMs: number, { rescuing }: { readonly rescuing: boolean }): Promise<void> {
    this.#gone = [];
    this.#entered = [];
    this.#vague = [];
    this.#scanIfDue();
    if (this.#isLost) await this.#awaitScan(deadlineMs);
    if (this.#halted || this.#scans === 0) {
      this.#sight.take();
      return;
    }
    try {
      await this.#look(deadlineMs, rescuing);
      this.#leaveVanished();
    } catch (error) {
      this.#onFailure(error);
    }
  }

  /** Everything announced from here on happened after a moment that its number stands for. */
  nextGeneration(): number {
    return this.#dirty.nextGeneration();
  }

  /** Nobody asks any more for what was deleted before the last look. */
  release(): void {
    this.#sight.release();
    this.#unseen = [];
  }

  /** Whether directories of it are looked at again and again, because they cannot be watched. */
  get isPolled(): boolean {
    return this.#watch.unwatched.size > 0;
  }

  /** In the last look: something was gone. Whether it was lost can be told when all is announced that happened before. */
  get hasGone(): boolean {
    return this.#gone.length + this.#entered.length + this.#vague.length + this.#unseen.length > 0;
  }

  /** In the last look: something was gone before it could be read, and may have a row in commits that were fetched so. */
  hasLost(fetched: Fetched): boolean {
    const { root } = this.capture;
    const isGoneForGood = (gone: Gone): boolean =>
      !this.#sight.wasMoved(gone.path) && isLost(root, gone, { since: (path) => this.#dirty.find(path), fetched });
    if (this.#gone.some(isGoneForGood)) return true;
    if (this.#unseen.some((unseen) => isWithin(unseen, fetched))) return true;
    const sinceLook = { ...fetched, fromNs: maxOf(fetched.fromNs, this.#beforeLookNs) };
    return (
      this.#entered.some((directory) => hasLost(root, directory, fetched)) ||
      this.#vague.some((directory) => hasLost(root, directory, sinceLook))
    );
  }

  /** In the last look: there were new directories, in which something may have come and gone before they were watched. */
  get entered(): boolean {
    return this.#entered.length > 0;
  }

  /** Resolves when changes that passed unseen were found, or the tree is halted. */
  async found(): Promise<void> {
    const { stop } = this.#options;
    while (this.#isLost && !this.#halted && !stop.aborted) {
      this.#scanIfDue();
      await (this.#scan ?? sleep(UNSETTLED_AGAIN_MS, stop));
    }
  }

  async remove(removals: readonly Removal[]): Promise<void> {
    if (this.#halted) return;
    try {
      await this.capture.remove(removals);
    } catch (error) {
      this.#onFailure(error);
    }
  }

  status(): TreeCaptureStatus {
    const { name, root } = this.capture;
    const figures = this.capture.figures();
    const halted = this.#halted && `${this.#halted.code}: ${this.#halted.message}`;
    return {
      name,
      path: root,
      state: halted === undefined ? (this.#scans === 0 ? "scanning" : "following") : "halted",
      ...figures,
      problem: halted ?? this.#problem ?? this.#limit() ?? figures.problem,
      dirty: this.#dirty.count + this.#unsettled.size,
      rescans: Math.max(0, this.#scans - 1),
      scan: this.#scanProgress,
    };
  }

  [Symbol.dispose](): void {
    this.#sight[Symbol.dispose]();
    this.#watch[Symbol.dispose]();
  }

  #marked(): void {
    this.#dirtyLastMs = this.#options.clock.monotonic();
    if (this.#dirtySinceMs !== undefined) return;
    this.#dirtySinceMs = this.#dirtyLastMs;
    this.#options.wake();
  }

  async #look(deadlineMs: number, rescuing: boolean): Promise<void> {
    const { clock } = this.#options;
    this.#pollUnwatched();
    this.#dirtySinceMs = undefined;
    const nowMs = clock.monotonic();
    const unsettled = [...this.#unsettled];
    const waitsFor = unsettled.filter(([, one]) => holdsUp(one, nowMs)).map(([path]) => path);
    const overdue = new Set(unsettled.map(([path]) => path).filter((path) => !waitsFor.includes(path)));
    const again = this.#unsettledDueMs <= nowMs ? overdue : new Set<TreePath>();
    for (const path of waitsFor) this.#dirty.markPath(path);
    const dirty = this.#dirty.take();
    const held = this.#sight.take();
    this.#beforeLookNs = this.#lookNs;
    this.#lookNs = BigInt(Math.floor(clock.now()) - CLOCK_TICK_MS) * 1_000_000n;
    this.#unsettled = new Map(unsettled.filter(([path]) => overdue.has(path) && !again.has(path)));
    const since = new Map(unsettled);
    const fresh = dirty.without(overdue);
    this.#isLate = false;
    const inLog = new Set<TreePath>();
    let captured: ReadonlySet<TreePath> = new Set();
    if (fresh.size > 0) {
      const findings = await this.#lookAt(fresh, { deadlineMs, ...(rescuing ? { held } : {}) });
      for (const { path } of findings.removals) inLog.add(path);
      captured = findings.captured;
      // Whoever waited for so long does not wait for these again.
      this.#take(
        findings,
        clock.monotonic() >= deadlineMs ? new Map(findings.unsettled.map((path) => [path, GIVEN_UP])) : since,
      );
    }
    if (again.size > 0) {
      const paths = new DirtyPaths();
      for (const path of again) paths.markPath(path);
      const shortly = { deadlineMs: clock.monotonic() + UNSETTLED_LOOK_MS };
      const { late, ...found } = await this.#lookAt(paths.take().without(new Set()), shortly);
      this.#take({ ...found, unsettled: [...found.unsettled, ...late], late: [] }, since);
    }
    this.#gone = dirty.gone(this.capture.root, { inLog, captured });
    this.#vague = dirty.vague;
  }

  async #lookAt(dirty: Dirty, options: Pick<LookOptions, "held"> & { deadlineMs: number }): Promise<Findings> {
    return this.capture.look(dirty, { ...this.#lookOptions(this.#options.abandon), ...options });
  }

  /** A directory that was announced is watched at once: what comes and goes in it until it is looked at would not be seen. */
  #enterEarly(directory: TreePath, identity: Identity): boolean {
    if (!this.#watch.enter(directory, identity) || !this.#watch.watches(directory)) return false;
    this.#early.add(directory);
    const unseen = unseenIn(this.capture.root, directory);
    if (unseen) this.#unseen.push(unseen);
    return true;
  }

  /** Directories that were watched early and are gone before a look met them. */
  #leaveVanished(): void {
    const vanished = [...this.#early].filter((directory) => !isThere(this.capture.root, directory));
    this.#watch.leave(new Set(vanished));
    for (const directory of vanished) this.#early.delete(directory);
  }

  #lookOptions(signal: AbortSignal): LookOptions {
    return {
      signal,
      enter: (directory, identity) => {
        const entered = this.#watch.enter(directory, identity);
        if (entered && this.#watch.watches(directory)) this.#entered.push(directory);
        return this.#early.delete(directory) || entered;
      },
    };
  }

  /** `since`: since when what is not settled has not been. */
  #take({ removals, unsettled, late }: Findings, since: ReadonlyMap<TreePath, Unsettled> = new Map()): void {
    const gone = removals.filter(({ kind }) => kind === "dir.remove").map(({ path }) => path);
    this.#watch.leave(new Set(gone));
    if (removals.length > 0) this.#options.onRemovals(removals);
    if (late.length > 0) {
      this.#isLate = true;
      for (const path of late) this.#dirty.markPath(path);
      this.#marked();
    }
    if (unsettled.length === 0) return;
    const nowMs = this.#options.clock.monotonic();
    for (const path of unsettled) {
      const { sinceMs, looks } = since.get(path) ?? { sinceMs: nowMs, looks: 0 };
      this.#unsettled.set(path, { sinceMs, looks: looks + 1 });
    }
    this.#unsettledDueMs = nowMs + UNSETTLED_AGAIN_MS;
  }

  /** For directories that are not watched every moment may be the one after a change. */
  #pollUnwatched(): void {
    const { unwatched } = this.#watch;
    if (unwatched.size === 0) return;
    for (const directory of unwatched) this.#dirty.markAll(directory);
    this.#pollDueMs = this.#options.clock.monotonic() + Math.max(POLL_MS, this.#scanTookMs / POLL_SHARE);
    if (this.#saidLimit === unwatched.size) return;
    this.#saidLimit = unwatched.size;
    this.#options.logger.warn({ tree: this.capture.name }, this.#limit());
  }

  #limit(): string | undefined {
    const { unwatched, refusal } = this.#watch;
    if (unwatched.size === 0 || refusal === undefined) return undefined;
    const setting = SYSCTL[refusal] ?? "the limits of inotify";
    return `${unwatched.size} directories of ${this.capture.root} cannot be watched (${refusal}) and are looked at again and again; raise ${setting}`;
  }

  #scanIfDue(): void {
    const { clock, stop } = this.#options;
    if (this.#scan || stop.aborted || clock.monotonic() < this.#scanDueMs) return;
    this.#scan = this.#runScan().finally(() => {
      this.#scan = undefined;
      this.#scanProgress = undefined;
      this.#options.wake();
    });
  }

  async #runScan(): Promise<void> {
    const { clock, rescanMs, logger, stop } = this.#options;
    const beganMs = clock.monotonic();
    // What is lost from here on calls for another one.
    const covers = this.#losses;
    this.#scanDueMs = Infinity;
    const progress = (done: number, total: number): void => void (this.#scanProgress = { done, total });
    try {
      this.#take(await this.capture.scan({ ...this.#lookOptions(stop), progress }));
      crashPoint("tree: scanned");
      this.#found = covers;
      this.#scans += 1;
      if (this.#halted) logger.info({ tree: this.capture.name }, `${this.capture.root} is captured again`);
      this.#halted = undefined;
      this.#problem = undefined;
      this.#scanDueMs = Math.min(this.#scanDueMs, clock.monotonic() + rescanMs);
      this.ready.resolve();
    } catch (error) {
      if (!stop.aborted) this.#onFailure(error);
    } finally {
      this.#scanTookMs = clock.monotonic() - beganMs;
    }
  }

  /** Nothing more of this tree until a scan succeeds; nobody waits for it. */
  #onFailure(error: unknown): void {
    const { clock, logger } = this.#options;
    const failure = toTidemarkError(error);
    const { code, hint, message } = failure;
    const told = this.#halted ? this.#halted.code === code : this.#problem === message;
    if (!told) logger.error({ tree: this.capture.name, code, hint }, `files of ${this.capture.name}: ${message}`);
    if (hasCode(error, "TREE_MISSING", "TREE_EMPTIED", "MASS_DELETION")) this.#halted = failure;
    else this.#problem = message;
    this.#loseNow();
    this.#scanDueMs = clock.monotonic() + SCAN_AGAIN_MS;
    this.ready.resolve();
  }

  /** Until a scan that began after the last loss is over. One that is not due yet is waited for as well. */
  async #awaitScan(deadlineMs: number): Promise<void> {
    const { clock, orderMaxWaitMs, stop } = this.#options;
    const limitMs = Math.min(deadlineMs, this.#lostSinceMs + orderMaxWaitMs);
    while (this.#isLost && !this.#halted && !stop.aborted) {
      const nowMs = clock.monotonic();
      if (nowMs >= limitMs) return;
      this.#scanIfDue();
      const enough = new AbortController();
      const untilMs = this.#scan ? limitMs : Math.min(limitMs, this.#scanDueMs);
      const late = sleep(Math.max(1, untilMs - nowMs), AbortSignal.any([enough.signal, stop]));
      await (this.#scan ? Promise.race([this.#scan, late]) : late);
      enough.abort();
    }
  }
}

function maxOf(one: bigint, other: bigint): bigint {
  return one > other ? one : other;
}

function holdsUp({ sinceMs, looks }: Unsettled, nowMs: number): boolean {
  return nowMs - sinceMs < UNSETTLED_HOLDS_MS || looks < UNSETTLED_HOLDS_LOOKS;
}
