import path from "node:path";

import type { Logger } from "pino";

import type { Offset } from "../../event/positions.ts";
import { type Clock, sleep } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import type { CaptureFeed } from "../capture-feed.ts";
import type { TreeCaptureStatus } from "../capture-agent.ts";
import type { ShipQueue } from "../ship-queue.ts";
import { IndexStoring } from "./index-storing.ts";
import { LostEvents } from "./lost-events.ts";
import { Overtaken } from "./overtaken.ts";
import { passCommits } from "./pass-commits.ts";
import { Removals } from "./removals.ts";
import { Sentinel } from "./sentinel.ts";
import type { FilesFeed } from "./files-feed.ts";
import type { TreeCapture } from "./tree-seam.ts";
import { TreeSide } from "./tree-side.ts";
import { Turnstile, type Way } from "./turnstile.ts";
import type { WatchBackend } from "./watch-backend.ts";

/** Files that change and no commit waits for: looked at when they have stood still for so long, or at the latest. */
const DEBOUNCE = { trailingMs: 50, longestMs: 1000 };
/** The kernel announces within microseconds; a machine that is short of everything gets this long. */
const SENTINEL_PATIENCE_MS = 2000;
/** At a stop files get this long. */
const LAST_LOOK_MS = 5000;
const SYNC_AGAIN_MS = 50;
const LONG_MS = 2 ** 31 - 1;

export interface FileSideOptions {
  readonly captures: readonly TreeCapture[];
  /** Now and then. */
  readonly lookAtLog: () => void;
  /** What the captures share, after all of them are closed. */
  readonly close: () => Promise<void>;
  readonly backend: WatchBackend;
  readonly feed: CaptureFeed;
  readonly queue: ShipQueue;
  /** What the captures send through. */
  readonly files: FilesFeed;
  /** Resolves when every commit made before the call is in `queue`, or in the log. */
  readonly syncDatabases: () => Promise<void>;
  /** Directory of the agent's state. */
  readonly state: string;
  readonly rescanMs: number;
  readonly orderMaxWaitMs: number;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Abort: scans end. */
  readonly stop: AbortSignal;
  /** Abort: everything ends, whatever is not in the log. */
  readonly abandon: AbortSignal;
}

/**
 * The file trees of a set, and the turnstile through which commits pass.
 *
 * Order (P4): a commit passes when every file that was complete before it is in the log. Commits are taken from the queue
 * first; then the sentinel shows that all that happened before was announced; then what was announced is looked at; then the
 * commits are sent. What is gone is removed after all commits made before it was seen to be gone.
 */
export class FileSide implements AsyncDisposable {
  readonly overtaken: Overtaken;
  readonly #options: FileSideOptions;
  readonly #trees: readonly TreeSide[];
  readonly #removals: Removals;
  readonly #sentinel: Sentinel;
  readonly #lostEvents: LostEvents;
  readonly #turnstile: Turnstile;
  readonly #storing: IndexStoring;
  /** Who waits for the end of a round that has not begun yet. */
  #waiting: PromiseWithResolvers<void>[] = [];
  #finishing = false;
  #ended = false;

  constructor(options: FileSideOptions) {
    const { captures, queue } = options;
    const wake = (): void => queue.waker.wake();
    this.#options = options;
    this.overtaken = new Overtaken(options.orderMaxWaitMs);
    this.#removals = new Removals(options.syncDatabases, wake);
    this.#sentinel = new Sentinel({
      directory: path.join(options.state, "sentinel"),
      backend: options.backend,
      patienceMs: SENTINEL_PATIENCE_MS,
      onHeard: (number) => this.#lostEvents.heard(number),
    });
    this.#lostEvents = new LostEvents(this.#sentinel, (why) => this.#lose(why));
    this.#storing = new IndexStoring({ ...options, onFailure: wake });
    this.#trees = captures.map((capture) => this.#treeSide(capture, wake));
    this.#turnstile = new Turnstile({
      ...options,
      trees: this.#trees,
      sentinel: this.#sentinel,
      onUnannounced: () => {
        this.#lose("changes are not announced");
        this.#beginSentinel();
      },
    });
  }

  /** Resolves when every tree was scanned once, or cannot be. */
  get ready(): Promise<unknown> {
    return Promise.all(this.#trees.map(async ({ scans }) => scans.ready.promise));
  }

  status(): readonly TreeCaptureStatus[] {
    return this.#trees.map((tree) => tree.status());
  }

  /** Until `finish`, and one round more. @throws what the log refused */
  async run(): Promise<void> {
    const ended = new AbortController();
    const storing = this.#storing.run(ended.signal);
    this.#beginSentinel();
    for (const tree of this.#trees) tree.begin();
    try {
      for (let last = false; !last;) {
        last = this.#finishing;
        if (!last) await this.#untilDue();
        await this.#round();
      }
    } finally {
      ended.abort();
      await storing;
      this.#ended = true;
      this.#options.queue.end();
      for (const { resolve } of this.#waiting) resolve();
    }
  }

  /** Now and then, also while nothing happens. */
  beat(): void {
    this.#options.lookAtLog();
  }

  /** Everything the databases had to say is in the queue. */
  finish(): void {
    this.#finishing = true;
    this.#options.queue.waker.wake();
  }

  /** Resolves when everything that happened to the files before the call is sent, but for files that do not stand still. */
  async sync(): Promise<void> {
    await Promise.all(this.#trees.map(async ({ scans }) => scans.found()));
    await this.#roundFromNow();
    const awaited = this.#trees.map((tree) => [tree, tree.awaited] as const);
    const isAwaited = (): boolean => awaited.some(([tree, paths]) => !paths.isDisjointFrom(tree.awaited));
    while ((isAwaited() || !this.#removals.isEmpty) && !this.#finishing) {
      if (isAwaited()) await sleep(SYNC_AGAIN_MS, this.#options.stop);
      await this.#roundFromNow();
    }
  }

  /** Everything sent is acknowledged. */
  store(acknowledged: Offset): void {
    this.#storing.all(acknowledged);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#lostEvents[Symbol.dispose]();
    this.#sentinel[Symbol.dispose]();
    for (const tree of this.#trees) {
      tree[Symbol.dispose]();
      tree.capture.close();
    }
    await this.#options.close();
  }

  #treeSide(capture: TreeCapture, wake: () => void): TreeSide {
    const tree: TreeSide = new TreeSide({
      ...this.#options,
      capture,
      moments: this.#sentinel,
      wake,
      onRemovals: (removals) => this.#removals.add(tree, removals),
    });
    return tree;
  }

  #lose(why: string): void {
    for (const tree of this.#trees) tree.lose(why);
  }

  #beginSentinel(): void {
    try {
      this.#sentinel.begin();
    } catch (error) {
      this.#options.logger.warn(
        { error: String(error) },
        "changes of files cannot be watched; all are scanned instead",
      );
    }
  }

  async #untilDue(): Promise<void> {
    const { queue, files, clock } = this.#options;
    for (;;) {
      this.#storing.throwIfFailed();
      if (!queue.isEmpty || this.#removals.areDue || this.#waiting.length > 0 || this.#finishing) return;
      if (files.unmarked && this.#isSettled) return;
      const dueMs = Math.min(...this.#trees.map((tree) => tree.dueMs(DEBOUNCE))) - clock.monotonic();
      if (dueMs <= 0) return;
      await queue.waker.wait(Math.min(dueMs, LONG_MS));
    }
  }

  /** Nothing that was announced is left to do. */
  get #isSettled(): boolean {
    return this.#removals.isEmpty && this.#trees.every((tree) => tree.isSettled);
  }

  async #roundFromNow(): Promise<void> {
    if (this.#ended) return;
    const round = Promise.withResolvers<void>();
    this.#waiting.push(round);
    this.#options.queue.waker.wake();
    await round.promise;
  }

  async #round(): Promise<void> {
    const { feed, files, queue, logger } = this.#options;
    const waiting = this.#waiting.splice(0);
    const removals = this.#removals.takeDue();
    const { isClear, merge } = await this.#capture();
    crashPoint("turnstile: files sent");
    const settled = isClear && this.#isSettled && (await this.#isQuiet());
    if (!isClear && this.overtaken.add(queue.taken.length)) logger.warn(this.overtaken.warning);
    await passCommits(this.#options, { merge, consistent: settled && removals.length === 0 });
    crashPoint("turnstile: commits sent");
    for (const { tree, removals: gone } of removals) await tree.remove(gone);
    crashPoint("turnstile: removals sent");
    if (settled && files.unmarked) feed.beatOnce({ consistent: true });
    if (settled) {
      files.unmarked = false;
      this.overtaken.over();
    }
    this.#storing.wake();
    for (const { resolve } of waiting) resolve();
  }

  /** Captures the files that were complete before the commits that are taken. */
  async #capture(): Promise<Way> {
    const { queue, clock, orderMaxWaitMs } = this.#options;
    const sinceMs = queue.take()[0]?.atMs ?? clock.monotonic();
    return this.#turnstile.clear(sinceMs + (this.#finishing ? Math.min(LAST_LOOK_MS, orderMaxWaitMs) : orderMaxWaitMs));
  }

  /**
   * Where changes are not announced a file may have come and gone unseen between a commit and the look: the last look is
   * consistent with the commits in the log only if none was made since they were taken.
   */
  async #isQuiet(): Promise<boolean> {
    if (!this.#trees.some((tree) => tree.isPolled)) return true;
    const { queue } = this.#options;
    return queue.count === 0 && (await this.#turnstile.areAsked()) && queue.count === 0;
  }
}
