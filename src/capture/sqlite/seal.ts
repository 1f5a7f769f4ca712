import type { Clock } from "../../runtime/clock.ts";
import type { WalIndexState } from "../../sqlite/live-files.ts";
import type { Checkpointer } from "./checkpointer.ts";
import type { SourceDatabase } from "./source-database.ts";
import { crashPoint } from "../../runtime/crash-point.ts";

/** Spinning for the write lock: longer would be felt by the app. */
const LOCK_MS = 100;
/** More than this is not captured under the write lock, which the app would feel; the seal is put off. */
const MAX_FRAMES_UNDER_LOCK = 1024;

export interface SealOptions {
  readonly source: SourceDatabase;
  readonly checkpointer: Checkpointer;
  readonly clock: Clock;
  /** Frames not captured yet. */
  readonly behind: (state: WalIndexState) => number;
  /** Ships what is there, waiting for room in the log. Nothing is locked. */
  readonly captureFirst: (state: WalIndexState) => Promise<void>;
  /** Ships what is left, without waiting for the log. */
  readonly capture: (state: WalIndexState) => Promise<void>;
}

/**
 * Seal: the WAL is long because it is never idle. Most of it is checkpointed without any lock; then, with the write
 * lock held, the rest is captured and checkpointed, and the new pin lands on read lock 0: the next writer restarts
 * the WAL. While we hold the write lock nobody can restart it, so the pin may be let go. Nothing waits for the log
 * under the lock, and one database is sealed at a time.
 *
 * Returns how long the write lock was held, or undefined when the seal was put off.
 */
export async function seal(options: SealOptions): Promise<number | undefined> {
  const { source, checkpointer, clock, behind, capture, captureFirst } = options;
  await checkpointer.passive(source.path);
  crashPoint("seal: checkpointed");
  // A checkpoint that completes brings all that the ones before it wrote onto the disk: not while the lock is held.
  await checkpointer.sync([source.files.walFd, source.files.databaseFd]);
  // This may wait for the log, for as long as it is away: nobody else must wait for the worker meanwhile.
  await source.handOver(captureFirst);
  crashPoint("seal: captured first");
  return checkpointer.exclusively(async (worker) => {
    if (!(await worker.lock(source.path, LOCK_MS))) return undefined;
    crashPoint("seal: locked");
    const lockedAtMs = clock.monotonic();
    try {
      if (behind(source.walIndex()) > MAX_FRAMES_UNDER_LOCK) return undefined;
      await source.handOver(capture);
      crashPoint("seal: captured");
      source.letGo();
      crashPoint("seal: let go");
      await worker.passive(source.path);
      crashPoint("seal: checkpointed locked");
      source.pin();
      crashPoint("seal: pinned");
    } finally {
      await worker.unlock(source.path);
      crashPoint("seal: unlocked");
    }
    return clock.monotonic() - lockedAtMs;
  });
}
