import type { Logger } from "pino";

import { type Clock, sleep } from "../../runtime/clock.ts";
import { hasCode, type TidemarkError, toTidemarkError } from "../../runtime/errors.ts";

/** A tree that is halted, or could not be scanned, is scanned again after this long. */
const SCAN_AGAIN_MS = 5000;
/** A scan because of changes that passed unseen takes no more than one part in so many of the time, more while somebody waits. */
const SCAN_SHARE = 5;
const HURRIED_SHARE = 2;
/** Between two looks whether a scan has found what was lost. */
const FOUND_AGAIN_MS = 250;

export interface TreeScansOptions {
  readonly tree: { readonly name: string; readonly root: string };
  readonly rescanMs: number;
  readonly orderMaxWaitMs: number;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Abort: scans end. */
  readonly stop: AbortSignal;
  /** Compares all of the tree. @throws what halts it, or keeps it from being read */
  readonly scan: (progress: (done: number, total: number) => void) => Promise<void>;
  readonly wake: () => void;
}

/** When a tree is scanned: at the start, now and then, and when changes may have passed unseen. */
export class TreeScans {
  readonly ready = Promise.withResolvers<void>();
  readonly #options: TreeScansOptions;
  /** How often changes may have passed unseen, and how many of these times a scan has made good. The start is the first. */
  #losses = 1;
  #found = 0;
  #lostSinceMs = 0;
  #running: Promise<void> | undefined;
  #progress: { done: number; total: number } | undefined;
  #dueMs = 0;
  #endedMs = 0;
  #tookMs = 0;
  #count = 0;
  #halted: TidemarkError | undefined;
  #problem: string | undefined;

  constructor(options: TreeScansOptions) {
    this.#options = options;
    this.ready.promise.catch(() => undefined);
  }

  begin(): void {
    this.#lostSinceMs = this.#options.clock.monotonic();
  }

  /** How many have succeeded. */
  get count(): number {
    return this.#count;
  }

  get progress(): { readonly done: number; readonly total: number } | undefined {
    return this.#progress;
  }

  get tookMs(): number {
    return this.#tookMs;
  }

  /** Why nothing more is sent of this tree until a scan succeeds. */
  get halted(): TidemarkError | undefined {
    return this.#halted;
  }

  /** Why it could not be looked at last time. */
  get problem(): string | undefined {
    return this.#problem;
  }

  get dueMs(): number {
    // None begins after a stop: whoever waits until it is due would look again and again.
    return this.#running || this.#options.stop.aborted ? Infinity : this.#dueMs;
  }

  /** Changes may have passed unseen, and no scan that began later is over. */
  get isLost(): boolean {
    return this.#losses > this.#found;
  }

  /** Commits wait for what passed unseen. */
  get isAwaited(): boolean {
    const { clock, orderMaxWaitMs, stop } = this.#options;
    return this.isLost && !this.#halted && !stop.aborted && clock.monotonic() < this.#lostSinceMs + orderMaxWaitMs;
  }

  /** Changes may have passed unseen: all of the tree is compared. */
  lose(why: string): void {
    const { clock, logger, tree, wake } = this.#options;
    if (!this.isLost) logger.info({ tree: tree.name }, `scanning ${tree.root}: ${why}`);
    this.#lose();
    this.#dueMs = Math.min(this.#dueMs, clock.monotonic() + this.#tookMs * SCAN_SHARE);
    wake();
  }

  /** Nothing more of this tree until a scan succeeds; nobody waits for it. */
  fail(error: unknown): void {
    const { clock, logger, tree } = this.#options;
    const failure = toTidemarkError(error);
    const { code, hint, message } = failure;
    const told = this.#halted ? this.#halted.code === code : this.#problem === message;
    if (!told) logger.error({ tree: tree.name, code, hint }, `files of ${tree.name}: ${message}`);
    if (hasCode(error, "TREE_MISSING", "TREE_EMPTIED", "MASS_DELETION")) this.#halted = failure;
    else this.#problem = message;
    this.#lose();
    this.#dueMs = clock.monotonic() + SCAN_AGAIN_MS;
    this.ready.resolve();
  }

  startIfDue(): void {
    const { clock, stop, wake } = this.#options;
    if (this.#running || stop.aborted || clock.monotonic() < this.#dueMs) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      this.#progress = undefined;
      wake();
    });
  }

  /** Resolves when changes that passed unseen were found, or the tree is halted. */
  async found(): Promise<void> {
    const { stop } = this.#options;
    while (this.isLost && !this.#halted && !stop.aborted) {
      this.#hurry();
      await (this.#running ?? sleep(FOUND_AGAIN_MS, stop));
    }
  }

  /** The same, for so long. A scan that is not due yet is waited for as well. */
  async foundBy(deadlineMs: number): Promise<void> {
    const { clock, orderMaxWaitMs, stop } = this.#options;
    const limitMs = Math.min(deadlineMs, this.#lostSinceMs + orderMaxWaitMs);
    while (this.isLost && !this.#halted && !stop.aborted) {
      const nowMs = clock.monotonic();
      if (nowMs >= limitMs) return;
      this.#hurry();
      const enough = new AbortController();
      const untilMs = this.#running ? limitMs : Math.min(limitMs, this.#dueMs);
      const late = sleep(Math.max(1, untilMs - nowMs), AbortSignal.any([enough.signal, stop]));
      await (this.#running ? Promise.race([this.#running, late]) : late);
      enough.abort();
    }
  }

  #hurry(): void {
    if (this.#running) return;
    // What keeps it from being read is not over sooner.
    if (this.#problem === undefined) {
      this.#dueMs = Math.min(this.#dueMs, this.#endedMs + this.#tookMs * (HURRIED_SHARE - 1));
    }
    this.startIfDue();
  }

  #lose(): void {
    if (!this.isLost) this.#lostSinceMs = this.#options.clock.monotonic();
    this.#losses += 1;
  }

  async #run(): Promise<void> {
    const { clock, rescanMs, logger, stop, tree, scan } = this.#options;
    const beganMs = clock.monotonic();
    // What is lost from here on calls for another one.
    const covers = this.#losses;
    this.#dueMs = Infinity;
    try {
      await scan((done, total) => (this.#progress = { done, total }));
      this.#found = covers;
      this.#count += 1;
      if (this.#halted) logger.info({ tree: tree.name }, `${tree.root} is captured again`);
      this.#halted = undefined;
      this.#problem = undefined;
      this.#dueMs = Math.min(this.#dueMs, clock.monotonic() + rescanMs);
      this.ready.resolve();
    } catch (error) {
      if (!stop.aborted) this.fail(error);
    } finally {
      this.#endedMs = clock.monotonic();
      this.#tookMs = this.#endedMs - beganMs;
    }
  }
}
