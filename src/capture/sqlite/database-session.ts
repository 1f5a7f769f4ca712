import { crashPoint } from "../../runtime/crash-point.ts";
import { hasCode } from "../../runtime/errors.ts";
import type { DatabaseParts } from "./database-parts.ts";
import type { Difference } from "./difference.ts";
import { Follower } from "./follower.ts";
import { agedStamp, lookAtFiles, type FileLook } from "./resting-files.ts";
import type { Scrub } from "./scrub.ts";
import { SourceDatabase } from "./source-database.ts";
import { WalWatch } from "./wal-watch.ts";
import { gap } from "./wal-scan.ts";

/** While something may be under way: every millisecond at first, then every ten. */
const QUICK_LOOKS = 10;
const QUICK_LOOK_MS = 1;
const LOOK_MS = 10;
/** How long after the last sign of life the WAL is still looked at every 10 ms: a slow fsync comes before the header. */
const ACTIVE_MS = 500;
/** While commits come by the thousand. */
const HURRIED_LOOK_MS = 5;
/** Safety net under the file watch. */
const SAFETY_LOOK_MS = 1000;
/** The files themselves are checked every second, too, and less often where nothing has moved for a while. */
const CHECK_MS = 1000;
const QUIET_AFTER_MS = 10_000;
const QUIET_CHECK_MS = 5000;

/** One that had something to ship keeps its place so long: opening it again may mean to read all of it. */
const HOLD_MS = 250;

/**
 * One database while its files are held open: resume or ship the difference, then follow. Ends when it is stopped, or
 * with what makes it necessary to open the files again (replaced, deleted, unreadable).
 */
export class DatabaseSession {
  readonly follower: Follower;
  readonly #parts: DatabaseParts;
  readonly #difference: Difference;
  readonly #scrub: Scrub;
  readonly #source: SourceDatabase;
  readonly #watch: WalWatch;
  #companionDeleted = false;
  #movedAtMs: number;
  #following = false;
  #restWanted = false;
  /** Something was shipped since the files were opened. */
  #worked = false;
  /** Of the database file, right before the files are closed. */
  #lastStamp: string | undefined;

  /** Opens and pins. @throws DATABASE_* */
  constructor(parts: DatabaseParts, difference: Difference, scrub: Scrub) {
    const { database, checkpointer, config, clock, keepsUp, hasSlack } = parts.options;
    this.#parts = parts;
    this.#difference = difference;
    this.#movedAtMs = clock.monotonic();
    this.#scrub = scrub;
    this.#source = new SourceDatabase(database.path);
    this.follower = new Follower({
      source: this.#source,
      shipper: parts.shipper,
      checkpointer,
      clock,
      waker: parts.waker,
      granularity: config.granularity,
      sealBytes: config.sealBytes,
      keepsUp,
      hasSlack,
      mayCheckpoint: () => !this.#companionDeleted,
    });
    this.#watch = new WalWatch(database.path, {
      onWrite: () => parts.waker.wake(),
      onFailure: (why) => this.#warnUnwatched(why),
    });
  }

  get movedAtMs(): number {
    return this.#movedAtMs;
  }

  get restable(): boolean {
    return this.#following && !this.#scrub.isRunning;
  }

  /** To make room for another database, as soon as this one had its while. */
  rest(): void {
    this.#restWanted = true;
    this.#parts.waker.wake();
  }

  /** `onFollowing` is called once everything up to now is sent. Resolves after a stop, or when it is to rest. */
  async run(onFollowing: () => void): Promise<"stopped" | "rest"> {
    const { saver, syncs, options } = this.#parts;
    await this.#begin();
    this.#following = true;
    onFollowing();
    const ended = await this.#follow();
    this.#following = false;
    if (ended === "stopped") {
      // What is stored waits for the log, and so perhaps for commits that wait for an answer.
      syncs.end(undefined);
      await saver.save();
    } else this.#lastStamp = agedStamp(options.database.path, options.clock.now());
    return ended;
  }

  /** After `close`: what can be seen of the files now, when it is certain that everything in them is shipped. */
  lookBack(): FileLook | undefined {
    const { database, clock } = this.#parts.options;
    const look = lookAtFiles(database.path, clock.now());
    // Without a wal-index whoever closed last wrote what was in the WAL into the database, if there was anything.
    const shipped = look.header
      ? this.follower.hasShipped(look.header)
      : look.wal === undefined && look.database !== undefined && look.database === this.#lastStamp;
    return shipped ? look : undefined;
  }

  /** While the log is away the WAL is the queue; past `wal.max` the pin is let go. @throws WAL_GAP when it was */
  letGoOfLongWal(): void {
    const { walBytes } = this.follower;
    if (!this.#source.pinned || walBytes <= this.#parts.options.config.walMaxBytes) return;
    this.#source.letGo();
    throw gap(`the log is away and the WAL grew to ${walBytes} bytes, past wal.max`);
  }

  async close(): Promise<void> {
    this.#watch[Symbol.dispose]();
    await this.#parts.options.checkpointer.close(this.#source.path);
    this.#source.close();
    crashPoint("capture: session closed");
  }

  async #begin(): Promise<void> {
    const { shipper, saver, progress } = this.#parts;
    const source = this.#source;
    crashPoint("capture: pinned");
    // In another file than the one that was shipped an old WAL proves nothing.
    const known = !shipper.copying && shipper.index.sizePages > 0 && saver.shippedFile === source.file;
    if (known && this.follower.tryResume(source.walIndex().header)) {
      // To be stored: nothing passed unseen.
      saver.changed();
      return progress.enter("following");
    }
    await this.#ship();
  }

  async #ship(): Promise<void> {
    this.#worked = true;
    await this.#difference.ship(this.follower, this.#source);
    this.#scrub.wasCompared();
  }

  async #follow(): Promise<"stopped" | "rest"> {
    const { follower } = this;
    const { saver, waker, options, progress } = this.#parts;
    const { clock, stop } = options;
    this.#movedAtMs = clock.monotonic();
    const followedMs = this.#movedAtMs;
    let checkedMs = followedMs;
    let unsettled = true;
    for (let quietLooks = 0; ; quietLooks += 1) {
      const last = stop.aborted;
      // Whoever asks means the files that are there now.
      if (this.#parts.syncs.pending) this.#source.checkIdentity();
      if (!last && this.#isStill()) {
        progress.upToDateMs = clock.now();
      } else if (await this.#lookAndRepair()) {
        quietLooks = 0;
        this.#worked = true;
        this.#movedAtMs = clock.monotonic();
      }
      if (last) return "stopped";
      const hold = this.#worked ? HOLD_MS : 0;
      if (this.#restWanted && !this.#scrub.isRunning && clock.monotonic() - followedMs >= hold) return "rest";
      // As soon as all is quiet, too: what is written to the file from then on was not SQLite's.
      const settledNow = unsettled && !follower.unsettled;
      unsettled = follower.unsettled;
      const quiet = clock.monotonic() - this.#movedAtMs >= QUIET_AFTER_MS;
      if (settledNow || clock.monotonic() - checkedMs >= (quiet ? QUIET_CHECK_MS : CHECK_MS)) {
        checkedMs = clock.monotonic();
        await this.#checkFiles();
        if (quiet) await options.checkpointer.closeIfOpen(options.database.path);
      }
      await this.#scrub.step({ follower, source: this.#source });
      if (saver.due) await saver.saveIfDue();
      if (follower.hurried) {
        this.#watch.pause();
        await waker.wait(HURRIED_LOOK_MS);
        quietLooks = 0;
        continue;
      }
      this.#watch.resume();
      const active = follower.unsettled || !this.#watch.works || clock.monotonic() - this.#movedAtMs < ACTIVE_MS;
      const pauseMs = quietLooks < QUICK_LOOKS ? QUICK_LOOK_MS : active ? LOOK_MS : SAFETY_LOOK_MS;
      if (await waker.wait(Math.min(pauseMs, this.#scrub.waitMs))) {
        quietLooks = 0;
        this.#movedAtMs = clock.monotonic();
      }
    }
  }

  /** Now and then: are these still the app's files, and did anybody write to them around SQLite? */
  async #checkFiles(): Promise<void> {
    const { database, logger } = this.#parts.options;
    const source = this.#source;
    const deleted = source.checkIdentity() === "companion deleted";
    if (deleted && !this.#companionDeleted) {
      const message = `the -wal or -shm of ${database.path} was deleted while it is open; it is followed for as long as the application has it open`;
      logger.warn({ database: database.name }, message);
    }
    this.#companionDeleted = deleted;
    if (source.writtenAround()) {
      logger.warn({ database: database.name }, `${database.path} was written around SQLite; its pages are compared`);
      this.#parts.saver.doubt();
      await this.#ship();
    }
    await this.follower.emptyIfAlone();
  }

  /** The short way of a look, for the many that find nothing. */
  #isStill(): boolean {
    return !this.#parts.syncs.pending && !this.follower.hurried && this.follower.atRest;
  }

  /** Returns whether anything was committed. */
  async #lookAndRepair(): Promise<boolean> {
    const { syncs, options, saver, progress, waitForRoom } = this.#parts;
    return syncs.answerWith(async () => {
      let moved = true;
      try {
        await waitForRoom();
        moved = await this.follower.look();
      } catch (error) {
        if (!hasCode(error, "WAL_GAP")) throw error;
        options.logger.warn({ database: options.database.name }, error.message);
        await this.#ship();
      }
      if (moved) saver.changed();
      progress.upToDateMs = options.clock.now();
      return moved;
    });
  }

  #warnUnwatched(why: string): void {
    const { database, logger } = this.#parts.options;
    logger.warn(
      { database: database.name },
      `cannot watch the WAL (${why}); it is looked at every ${LOOK_MS} ms. Raise fs.inotify.max_user_watches and max_user_instances`,
    );
  }
}
