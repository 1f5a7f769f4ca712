import fs from "node:fs";

import type { Logger } from "pino";

import type { CaptureConfig, DatabaseConfig } from "../../config/config.ts";
import { sleep } from "../../runtime/clock.ts";
import { hasCode, TidemarkError, toTidemarkError } from "../../runtime/errors.ts";
import { Waker } from "../../runtime/waker.ts";
import type { DatabaseCaptureStatus } from "../capture-agent.ts";
import type { Checkpointer } from "./checkpointer.ts";
import { copyDatabase } from "./copy.ts";
import { Follower } from "./follower.ts";
import { LogRoom, type LogRoomOptions } from "./log-room.ts";
import { preflight } from "./preflight.ts";
import { Shipper, type ShippedState, type ShipperOptions } from "./shipper.ts";
import { SourceDatabase } from "./source-database.ts";
import { SyncRequests } from "./sync-requests.ts";
import { gap } from "./wal-scan.ts";

/** While something may be under way: every millisecond at first, then every ten. */
const QUICK_LOOKS = 10;
const QUICK_LOOK_MS = 1;
const LOOK_MS = 10;
/** How long after the last sign of life the WAL is still looked at every 10 ms: a slow fsync comes before the header. */
const ACTIVE_MS = 500;
/** Safety net under the file watch. */
const SAFETY_LOOK_MS = 1000;
const SAVE_EVERY_MS = 5000;
/** Storing the index waits for the log's acknowledgements only so long: nobody looks at the WAL meanwhile. */
const SAVE_PATIENCE_MS = 50;
const SAVE_AGAIN_MS = 500;
const FIRST_BACK_OFF_MS = 100;
const MAX_BACK_OFF_MS = 5000;
/** A copy under way when the agent is stopped gets this long; then it is given up, and begun again at the next start. */
const COPY_GRACE_MS = 5000;

export interface DatabaseCaptureOptions extends LogRoomOptions {
  readonly database: DatabaseConfig;
  readonly config: CaptureConfig;
  readonly shipped: ShippedState | undefined;
  /** When the log last held everything, ms since 1970: since when a first repair must say that a gap may exist. */
  readonly shippedAtMs: number;
  readonly shipper: Omit<ShipperOptions, "database" | "room">;
  /** Whether a seal's worth can be sent without waiting for room. */
  readonly hasSlack: () => boolean;
  /** Stores the index once everything sent is acknowledged. False when that takes longer than `patienceMs`. */
  readonly save: (shipped: ShippedState, patienceMs: number | undefined) => Promise<boolean>;
  readonly checkpointer: Checkpointer;
  readonly logger: Logger;
  /** Abort: capture what is committed by then, and end. */
  readonly stop: AbortSignal;
}

type State = DatabaseCaptureStatus["state"];

/** One database from opening to the last look: copy or resume, follow, repair, open again when it was replaced. */
export class DatabaseCapture {
  /** Resolves when the log holds the database as of now (sent, perhaps not yet acknowledged). */
  readonly ready = Promise.withResolvers<void>();
  readonly #options: DatabaseCaptureOptions;
  readonly #waker = new Waker();
  readonly #shipper: Shipper;
  readonly #syncs = new SyncRequests();
  readonly #room: LogRoom;
  #follower: Follower | undefined;
  #source: SourceDatabase | undefined;
  #state: State = "starting";
  #problem: string | undefined;
  #copy: { done: number; total: number } | undefined;
  #totals = { commits: 0, copies: 0, repairs: 0, seals: 0 };
  #upToDateMs: number;
  #saveDueMs = 0;
  #dirty = false;
  #stoppedAtMs = Infinity;
  /** The file that the index describes; undefined while a copy or comparison is due. */
  #shippedFile: string | undefined;
  #companionDeleted = false;
  #watched = false;

  constructor(options: DatabaseCaptureOptions) {
    this.#options = options;
    this.#upToDateMs = options.shippedAtMs;
    this.#room = new LogRoom(options);
    this.#shipper = new Shipper(
      { ...options.shipper, database: options.database.name, room: async () => this.#waitForRoom() },
      options.shipped,
    );
    this.#shippedFile = options.shipped?.file;
    options.stop.addEventListener("abort", () => {
      this.#stoppedAtMs = options.clock.monotonic();
      this.#waker.wake();
    });
    this.ready.promise.catch(() => undefined);
  }

  /** Resolves after a stop with everything captured; rejects with what cannot be retried. */
  async run(): Promise<void> {
    let backOffMs = FIRST_BACK_OFF_MS;
    for (;;) {
      const startedMs = this.#options.clock.monotonic();
      try {
        await this.#session();
        return this.#end(undefined);
      } catch (error) {
        const problem = toTidemarkError(error);
        if (problem.code === "INTERRUPTED") return this.#end(problem);
        if (!this.#worthRetrying(problem)) {
          this.#end(problem);
          throw problem;
        }
        if (this.#options.clock.monotonic() - startedMs > MAX_BACK_OFF_MS) backOffMs = FIRST_BACK_OFF_MS;
        this.#enter("waiting", `${problem.code}: ${problem.message}`);
        this.#options.logger.warn({ database: this.#options.database.name, code: problem.code }, problem.message);
        await this.#backOff(backOffMs);
        backOffMs = Math.min(backOffMs * 2, MAX_BACK_OFF_MS);
        if (this.#options.stop.aborted) return this.#end(problem);
      }
    }
  }

  /** Resolves when everything committed before the call is sent to the log. */
  async sync(): Promise<void> {
    const synced = this.#syncs.ask();
    this.#waker.wake();
    await synced;
  }

  status(): DatabaseCaptureStatus {
    const counters = this.#follower?.counters;
    return {
      name: this.#options.database.name,
      path: this.#options.database.path,
      state: this.#state,
      problem: this.#problem,
      pages: this.#shipper.index.sizePages,
      commits: this.#totals.commits + (counters?.commits ?? 0),
      copies: this.#totals.copies,
      repairs: this.#totals.repairs,
      seals: this.#totals.seals + (counters?.seals ?? 0),
      walBytes: this.#follower?.walBytes ?? 0,
      copy: this.#copy,
    };
  }

  /**
   * Before the first session a missing or unsuitable database is the user's mistake and ends the agent; afterwards it
   * was deleted or replaced under us, and capture waits for it.
   */
  #worthRetrying(problem: TidemarkError): boolean {
    if (problem.retryable) return true;
    const started = this.#totals.copies + this.#totals.repairs > 0 || this.#options.shipped !== undefined;
    return started && problem.code.startsWith("DATABASE_");
  }

  #end(problem: TidemarkError | undefined): void {
    this.#enter("stopped", problem && `${problem.code}: ${problem.message}`);
    if (problem) this.ready.reject(problem);
    this.#syncs.end(problem);
  }

  #enter(state: State, problem?: string): void {
    this.#state = state;
    this.#problem = problem;
  }

  async #session(): Promise<void> {
    const { database, checkpointer, config, clock, keepsUp } = this.#options;
    preflight(database.path);
    const source = new SourceDatabase(database.path);
    let watcher: fs.FSWatcher | undefined;
    try {
      this.#source = source;
      this.#follower = new Follower({
        source,
        shipper: this.#shipper,
        checkpointer,
        clock,
        waker: this.#waker,
        granularity: config.granularity,
        sealBytes: config.sealBytes,
        keepsUp,
        hasSlack: this.#options.hasSlack,
        mayCheckpoint: () => !this.#companionDeleted,
      });
      watcher = this.#watch();
      await this.#begin(this.#follower, source);
      await this.#follow(this.#follower, source);
    } finally {
      watcher?.close();
      this.#retire();
      await checkpointer.close(database.path);
      source.close();
    }
  }

  /** The watch only wakes us sooner: where there is none (inotify's limits) the WAL is looked at every 10 ms. */
  #watch(): fs.FSWatcher | undefined {
    const { database, logger } = this.#options;
    try {
      const watcher = fs.watch(`${database.path}-wal`, () => this.#waker.wake());
      watcher.on("error", () => (this.#watched = false));
      this.#watched = true;
      return watcher;
    } catch (error) {
      this.#watched = false;
      logger.warn(
        { database: database.name },
        `cannot watch the WAL (${String(error)}); it is looked at every ${LOOK_MS} ms. Raise fs.inotify.max_user_watches and max_user_instances`,
      );
      return undefined;
    }
  }

  #retire(): void {
    this.#totals.commits += this.#follower?.counters.commits ?? 0;
    this.#totals.seals += this.#follower?.counters.seals ?? 0;
    this.#follower = undefined;
    this.#source = undefined;
  }

  async #begin(follower: Follower, source: SourceDatabase): Promise<void> {
    // In another file than the one that was shipped an old WAL proves nothing.
    const known = this.#shipper.index.sizePages > 0 && this.#shippedFile === source.file;
    if (!known || !follower.tryResume(source.walIndex().header)) await this.#ship(follower, source);
    this.#enter("following");
    this.ready.resolve();
  }

  async #follow(follower: Follower, source: SourceDatabase): Promise<void> {
    const { clock, stop } = this.#options;
    let activeUntilMs = clock.monotonic() + ACTIVE_MS;
    let checkedMs = clock.monotonic();
    let unsettled = true;
    for (let quietLooks = 0; ; quietLooks += 1) {
      const last = stop.aborted;
      if (await this.#lookAndRepair(follower, source)) {
        quietLooks = 0;
        activeUntilMs = clock.monotonic() + ACTIVE_MS;
      }
      if (last) break;
      // As soon as all is quiet, too: what is written to the file from then on was not SQLite's.
      const settledNow = unsettled && !follower.unsettled;
      unsettled = follower.unsettled;
      if (settledNow || clock.monotonic() - checkedMs >= SAFETY_LOOK_MS) {
        checkedMs = clock.monotonic();
        await this.#checkFiles(follower, source);
      }
      await this.#saveIfDue();
      const active = follower.unsettled || !this.#watched || clock.monotonic() < activeUntilMs;
      const pauseMs = quietLooks < QUICK_LOOKS ? QUICK_LOOK_MS : active ? LOOK_MS : SAFETY_LOOK_MS;
      if (await this.#waker.wait(pauseMs)) {
        quietLooks = 0;
        activeUntilMs = clock.monotonic() + ACTIVE_MS;
      }
    }
    await this.#save();
  }

  /** Once a second: are these still the app's files, and did anybody write to them around SQLite? */
  async #checkFiles(follower: Follower, source: SourceDatabase): Promise<void> {
    const { database, logger } = this.#options;
    const deleted = source.checkIdentity() === "companion deleted";
    if (deleted && !this.#companionDeleted) {
      const message = `the -wal or -shm of ${database.path} was deleted while it is open; it is followed for as long as the application has it open`;
      logger.warn({ database: database.name }, message);
    }
    this.#companionDeleted = deleted;
    if (source.writtenAround()) {
      logger.warn({ database: database.name }, `${database.path} was written around SQLite; its pages are compared`);
      await this.#ship(follower, source);
      this.#enter("following");
    }
    await follower.emptyIfAlone();
  }

  /** Returns whether anything was committed. */
  async #lookAndRepair(follower: Follower, source: SourceDatabase): Promise<boolean> {
    return this.#syncs.answerWith(async () => {
      let moved = true;
      try {
        await this.#waitForRoom();
        moved = await follower.look();
      } catch (error) {
        if (!hasCode(error, "WAL_GAP")) throw error;
        this.#options.logger.warn({ database: this.#options.database.name }, error.message);
        await this.#ship(follower, source);
        this.#enter("following");
      }
      this.#dirty ||= moved;
      this.#upToDateMs = this.#options.clock.now();
      return moved;
    });
  }

  /** A copy when the log holds nothing of the database, else the difference. Starts again when a gap opens meanwhile. */
  async #ship(follower: Follower, source: SourceDatabase): Promise<void> {
    const { logger, database, clock } = this.#options;
    // Until the comparison is done nothing is proved: when it fails on the way, the next session must not resume.
    this.#shippedFile = undefined;
    for (let backOffMs = FIRST_BACK_OFF_MS; ; backOffMs = Math.min(backOffMs * 2, MAX_BACK_OFF_MS)) {
      const cause = this.#shipper.index.sizePages === 0 ? "copy" : "repair";
      this.#enter("copying", this.#problem);
      try {
        await this.#options.room();
        const startedMs = clock.monotonic();
        const changeCounter = await copyDatabase({
          source,
          shipper: this.#shipper,
          cause,
          gapSinceMs: this.#upToDateMs,
          progress: (done, total) => (this.#copy = { done, total }),
          sealIfLong: async (capture) => follower.sealIfLong(capture),
          pace: async (bytes) => this.#pace(bytes),
        });
        follower.startAt(changeCounter);
        this.#shippedFile = source.file;
        this.#totals[cause === "copy" ? "copies" : "repairs"] += 1;
        this.#dirty = true;
        // At once: an agent killed right after a long copy must not begin it again.
        this.#saveDueMs = 0;
        const ms = Math.round(clock.monotonic() - startedMs);
        logger.info({ database: database.name, cause, pages: this.#shipper.index.sizePages, ms }, `${cause} done`);
        return;
      } catch (error) {
        if (!hasCode(error, "WAL_GAP")) throw error;
        // Said once while it stays the same: a damaged WAL is a gap for as long as it is there.
        if (this.#problem !== error.message) logger.warn({ database: database.name }, error.message);
        this.#enter("waiting", error.message);
      } finally {
        this.#copy = undefined;
      }
      await this.#backOff(backOffMs);
      this.#giveUpWhenStopped();
      source.checkIdentity();
    }
  }

  /** Nothing shortens it but a stop: an app that writes wakes us all the time. */
  async #backOff(ms: number): Promise<void> {
    const { stop } = this.#options;
    await sleep(ms, stop.aborted ? undefined : stop);
  }

  /** Yields to the event loop; keeps the configured rate. */
  async #pace(bytes: number): Promise<void> {
    const { config, stop } = this.#options;
    const rate = config.copyBytesPerSecond;
    await sleep(rate ? (bytes / rate) * 1000 : 0, stop.aborted ? undefined : stop);
    this.#giveUpWhenStopped();
  }

  #giveUpWhenStopped(): void {
    const { clock, database, stop } = this.#options;
    if (!stop.aborted || clock.monotonic() - this.#stoppedAtMs < COPY_GRACE_MS) return;
    throw new TidemarkError("INTERRUPTED", `the copy of ${database.name} was not finished`, {
      hint: "Nothing is lost: the next start begins it again.",
    });
  }

  /**
   * While the log is away the WAL is the queue; past `walMaxBytes` the pin is let go, and the difference is shipped when
   * the log is back.
   */
  async #waitForRoom(): Promise<void> {
    await this.#room.wait(() => {
      const walBytes = this.#follower?.walBytes ?? 0;
      if (!this.#source?.pinned || walBytes <= this.#options.config.walMaxBytes) return;
      this.#source.letGo();
      throw gap(`the log is away and the WAL grew to ${walBytes} bytes, past wal.max`);
    });
  }

  async #saveIfDue(): Promise<void> {
    if (!this.#dirty || this.#options.clock.monotonic() < this.#saveDueMs) return;
    await this.#save(SAVE_PATIENCE_MS);
  }

  async #save(patienceMs?: number): Promise<void> {
    const { index, position } = this.#shipper;
    const saved = await this.#options.save({ index, position, file: this.#shippedFile ?? "none" }, patienceMs);
    this.#saveDueMs = this.#options.clock.monotonic() + (saved ? SAVE_EVERY_MS : SAVE_AGAIN_MS);
    if (saved) this.#dirty = false;
  }
}
