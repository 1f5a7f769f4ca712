import { setImmediate as nextTurn } from "node:timers/promises";

import { crashPoint } from "../../runtime/crash-point.ts";
import { hasCode } from "../../runtime/errors.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Waker } from "../../runtime/waker.ts";
import type { WalIndexHeader } from "../../format/wal-index.ts";
import { FRAME_HEADER_BYTES } from "../../format/wal.ts";
import type { WalIndexState } from "../../sqlite/live-files.ts";
import type { Checkpointer } from "./checkpointer.ts";
import type { Shipper } from "./shipper.ts";
import type { SourceDatabase } from "./source-database.ts";
import { Pace } from "./pace.ts";
import { othersHoldLocks } from "./lock-table.ts";
import { RightOfWay } from "./right-of-way.ts";
import { seal, type SealOptions } from "./seal.ts";
import { gap, recycle, resumePoint, scanTail, scanWal, type ScannedCommit, type WalScan } from "./wal-scan.ts";
import { WalTail } from "./wal-tail.ts";

/** Quiet for this long before we checkpoint ourselves, so that the pin can go to read lock 0. Longer than an fsync. */
const QUIET_BEFORE_SETTLING_MS = 25;
/** Another checkpoint that runs this long is taken to be waiting for our pins. */
const BUSY_BEFORE_LETTING_GO_MS = 20;
/** How long an app that waits for our pins gets the WAL for itself. */
const LET_GO_MS = 150;
/** Events shipped between two turns of the event loop; a power of two. */
const COMMITS_A_TURN = 64;
/** Nobody else has had the database open for this long. */
const ALONE_BEFORE_EMPTYING_MS = 5000;
/** Between two seals: the write lock is ours for a small share of the time only. */
const SEAL_PAUSE_MS = 20;
const SEAL_PAUSE_FACTOR = 20;
const FIRST_BACK_OFF_MS = 20;
const MAX_BACK_OFF_MS = 1000;
/** adaptive: up to this many commits of one look stay events of their own while the log keeps up. */
const FINE_COMMITS_A_LOOK = 64;

/** Frames of commits that share an event: it is applied as a whole, in memory. */
const MAX_EVENT_BYTES = 4 * 1024 * 1024;

export interface FollowerOptions {
  readonly source: SourceDatabase;
  readonly shipper: Shipper;
  readonly checkpointer: Checkpointer;
  readonly clock: Clock;
  readonly waker: Waker;
  readonly granularity: "adaptive" | "commit";
  readonly sealBytes: number;
  /** Whether the log keeps up: few bytes unacknowledged. */
  readonly keepsUp: () => boolean;
  /** Whether a seal's worth can be sent without waiting. */
  readonly hasSlack: () => boolean;
  /** false when the files at the path are not all the ones that the app has open: then checkpoints are the app's. */
  readonly mayCheckpoint: () => boolean;
}

export interface FollowerCounters {
  commits: number;
  seals: number;
  /** How often the application's own checkpoints got the right of way. */
  ways: number;
  /** Time the write lock was held by seals, ms. */
  sealHeldMs: number;
}

/**
 * Follows one database: looks, captures what was committed, hands over pins, keeps out of the app's way.
 *
 * Invariant: whenever no capture is under way, everything up to `#changeCounter` is shipped, and every frame committed later
 * is protected by the pin until it is captured; or the commit count shows that it was not (WAL_GAP).
 */
export class Follower {
  readonly counters: FollowerCounters = { commits: 0, seals: 0, ways: 0, sealHeldMs: 0 };
  readonly #options: FollowerOptions;
  #changeCounter = 0;
  #movedAtMs = 0;
  /** Since when our checkpoint finds another one running, without a commit in between. */
  #busySinceMs: number | undefined;
  /** Since when nobody else has had the database open. */
  #aloneSinceMs: number | undefined;
  #settleAfterMs = 0;
  #backOffMs = FIRST_BACK_OFF_MS;
  #sealAfterMs = 0;
  readonly #pace: Pace;
  readonly #rightOfWay: RightOfWay;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#pace = new Pace(options.clock);
    const { source, checkpointer, clock, shipper } = options;
    this.#rightOfWay = new RightOfWay({
      source,
      checkpointer,
      clock,
      position: () => shipper.position,
      capture: async ({ header }, tail) => this.capture(header, { wait: false, tail }),
    });
  }

  get #mayLetBy(): boolean {
    return this.#options.mayCheckpoint() && this.#options.hasSlack();
  }

  /** Commits come so fast that a look every few milliseconds serves better than one for each. */
  get hurried(): boolean {
    return this.#pace.hurried;
  }

  /** Goes on from the shipper's position, which holds everything up to the header with this change counter. */
  startAt(changeCounter: number): void {
    this.#changeCounter = changeCounter;
  }

  /**
   * Goes on after a restart of the agent without reading the database, when the WAL proves that nothing passed: it is
   * still the same generation (salts), and its frames continue the checksum chain where the last event ended.
   */
  tryResume(header: WalIndexHeader): boolean {
    const { source, shipper } = this.#options;
    const { position } = shipper;
    if (position.frame === 0 || position.salt1 !== header.salt1 || position.salt2 !== header.salt2) return false;
    const { c1, c2 } = header.frameChecksum;
    const atEnd = position.frame === header.mxFrame;
    if (atEnd && (position.checksum1 !== c1 || position.checksum2 !== c2)) return false;
    try {
      const scan = scanWal(source.files.walFd, position, header);
      this.startAt((header.changeCounter - scan.commits.length) >>> 0);
      return true;
    } catch (error) {
      if (hasCode(error, "WAL_GAP")) return false;
      throw error;
    }
  }

  /** Whether a look would find nothing to do: nothing was committed, and the pin disturbs nobody. */
  get atRest(): boolean {
    const { source } = this.#options;
    if (!source.onLockZero) return false;
    const state = source.files.readWalIndex();
    return state !== undefined && !this.#moved(state.header);
  }

  /** Whether everything up to `header` is shipped. Can be asked after the files were closed, too. */
  hasShipped(header: WalIndexHeader): boolean {
    return !this.#moved(header);
  }

  /** Bytes of the WAL that hold committed frames. */
  get walBytes(): number {
    const header = this.#options.source.files.readWalIndex()?.header;
    return header ? header.mxFrame * (header.pageSize + FRAME_HEADER_BYTES) : 0;
  }

  /**
   * One look. Returns whether anything was committed since the last.
   * @throws WAL_GAP when commits passed unseen
   */
  async look(): Promise<boolean> {
    const { source } = this.#options;
    const state = source.files.readWalIndex();
    if (!source.pinned) source.pin();
    // No valid header: a writer died between its two copies. Reading through SQLite, as a new pin does, rebuilds it.
    if (!state || this.#moved(state.header)) {
      this.#movedAtMs = this.#options.clock.monotonic();
      this.#busySinceMs = undefined;
      const inTheWay = state !== undefined && this.#mayLetBy && this.#rightOfWay.isDue(state);
      const before = this.counters.commits;
      await source.handOver(async (fresh) => this.capture(fresh.header));
      if (inTheWay && (await this.#rightOfWay.give())) this.counters.ways += 1;
      this.#pace.saw(this.counters.commits - before);
      await this.sealIfLong({
        captureFirst: async (fresh) => this.capture(fresh.header),
        capture: async (fresh) => this.capture(fresh.header, { wait: false }),
      });
      return true;
    }
    this.#pace.saw(0);
    if (source.onLockZero) return false;
    if (state.checkpoint.backfilledFrames === state.header.mxFrame) {
      // Everything is in the database file: a new pin lands on read lock 0 and whoever waits for the old one can go on.
      await source.landOnLockZero(async (fresh) => this.capture(fresh.header));
      return false;
    }
    const { clock } = this.#options;
    if (clock.monotonic() - this.#movedAtMs >= QUIET_BEFORE_SETTLING_MS) await this.#settle();
    return false;
  }

  /** Whether the WAL must be looked at again soon although nothing woke us. */
  get unsettled(): boolean {
    return !this.#options.source.onLockZero;
  }

  /**
   * Reads and ships everything up to `header`: what was still committed before the WAL restarted, if it did, and what is
   * in it now. The proof of continuity is the count: the change counter went up by one with every commit.
   */
  async capture(
    header: WalIndexHeader,
    options: { wait?: boolean; tail?: Uint8Array | undefined } = {},
  ): Promise<void> {
    const { source, shipper } = this.#options;
    const { wait = true } = options;
    if (!this.#moved(header)) return;
    const { position } = shipper;
    const scan = scanWal(source.files.walFd, position, header);
    const expected = (header.changeCounter - this.#changeCounter) >>> 0;
    const missing = expected - scan.commits.length;
    if (missing > 0 && position.salt1 !== header.salt1) {
      const tail = options.tail ?? this.#readTail(header.pageSize);
      await this.#ship(scanTail(tail, position, { commits: missing, header }), { wait });
    } else if (missing !== 0) {
      throw gap(`the wal-index counts ${expected} commits, the WAL shows ${scan.commits.length}`);
    }
    await this.#ship(scan, { wait });
    if (scan.commits.length === 0) shipper.movePosition(resumePoint(shipper.position, header));
  }

  /** What stands behind the position after the WAL restarted. */
  #readTail(pageSize: number): Uint8Array {
    const { source, shipper } = this.#options;
    const tail = new WalTail(source.files.walFd, shipper.position, pageSize);
    tail.readRest();
    return tail.take();
  }

  async #ship(scan: WalScan, { wait }: { wait: boolean }): Promise<void> {
    const { source, shipper } = this.#options;
    for (const commits of this.#group(scan)) {
      if (wait && (this.counters.commits & (COMMITS_A_TURN - 1)) === 0) {
        await shipper.room();
        await nextTurn();
      }
      await shipper.shipCommits(source.files, scan, { commits, wait });
      this.#changeCounter = (this.#changeCounter + commits.length) >>> 0;
      this.counters.commits += commits.length;
    }
    recycle(scan);
  }

  #moved(header: WalIndexHeader): boolean {
    const { position } = this.#options.shipper;
    return (
      header.changeCounter !== this.#changeCounter ||
      header.mxFrame !== position.frame ||
      header.salt1 !== position.salt1 ||
      header.salt2 !== position.salt2
    );
  }

  #group(scan: WalScan): (readonly ScannedCommit[])[] {
    const { granularity, keepsUp } = this.#options;
    const fine = scan.commits.length <= FINE_COMMITS_A_LOOK && !this.hurried && keepsUp();
    if (granularity === "commit" || fine) {
      return scan.commits.map((commit) => [commit]);
    }
    return [...together(scan)];
  }

  /**
   * Quiet, and frames are not in the database file yet: checkpoint them ourselves, so that the next pin lands on read
   * lock 0. Busy means that somebody else checkpoints and may be waiting for our pins: let go, and let the count decide.
   */
  async #settle(): Promise<void> {
    const { source, checkpointer, clock, mayCheckpoint } = this.#options;
    if (clock.monotonic() < this.#settleAfterMs || !mayCheckpoint()) return;
    const result = await checkpointer.passive(source.path);
    crashPoint("settle: checkpointed");
    if (result.busy) {
      this.#busySinceMs ??= clock.monotonic();
      if (clock.monotonic() - this.#busySinceMs >= BUSY_BEFORE_LETTING_GO_MS) await this.#letGoForAWhile();
    } else if (result.backfilledFrames < result.walFrames) {
      // A reader of the app's holds an older snapshot.
      this.#settleAfterMs = clock.monotonic() + this.#backOffMs;
      this.#backOffMs = Math.min(this.#backOffMs * 2, MAX_BACK_OFF_MS);
    } else {
      this.#backOffMs = FIRST_BACK_OFF_MS;
    }
  }

  async #letGoForAWhile(): Promise<void> {
    const { source, clock, waker } = this.#options;
    source.letGo();
    this.#busySinceMs = undefined;
    const until = clock.monotonic() + LET_GO_MS;
    while (clock.monotonic() < until) {
      const state = source.files.readWalIndex();
      if (state && this.#moved(state.header)) break;
      await waker.wait(1);
    }
    source.pin();
  }

  /** Seals a WAL that grew long. Not while the log is slow. */
  async sealIfLong({ captureFirst, capture }: Pick<SealOptions, "captureFirst" | "capture">): Promise<void> {
    const { source, shipper, checkpointer, clock, sealBytes, hasSlack, mayCheckpoint } = this.#options;
    if (source.onLockZero || this.walBytes < sealBytes || clock.monotonic() < this.#sealAfterMs) return;
    if (!hasSlack() || !mayCheckpoint()) return;
    const behind = ({ header }: WalIndexState): number => header.mxFrame - resumePoint(shipper.position, header).frame;
    const heldMs = await seal({ source, checkpointer, clock, behind, capture, captureFirst });
    if (heldMs === undefined) return this.#sealLater();
    this.counters.seals += 1;
    this.counters.sealHeldMs += heldMs;
    this.#sealAfterMs = clock.monotonic() + SEAL_PAUSE_MS + heldMs * SEAL_PAUSE_FACTOR;
    // When a reader of the app's holds an older snapshot the WAL stays long.
    if (this.walBytes < sealBytes || allBackfilled(source)) this.#backOffMs = FIRST_BACK_OFF_MS;
    else this.#sealLater();
  }

  /**
   * Does for a database that everybody else has closed what its last close would have done without us: empties the WAL.
   * Frames left in it would be replayed over another file that somebody puts in the database's place. Only after
   * seconds alone: a process that reads before the WAL restarts and writes after it is told that its snapshot is old.
   */
  async emptyIfAlone(): Promise<void> {
    const { source, checkpointer, clock, mayCheckpoint } = this.#options;
    const header = source.files.readWalIndex()?.header;
    const mayEmpty = header && header.mxFrame > 0 && source.onLockZero && mayCheckpoint() && !this.#moved(header);
    if (!mayEmpty || othersHoldLocks(source.files.shmFd, { now: false }) !== false) {
      this.#aloneSinceMs = undefined;
      return;
    }
    this.#aloneSinceMs ??= clock.monotonic();
    if (clock.monotonic() - this.#aloneSinceMs < ALONE_BEFORE_EMPTYING_MS) return;
    await checkpointer.truncateIfAlone(source.path, source.files.shmFd);
    crashPoint("settle: emptied");
    this.#aloneSinceMs = undefined;
  }

  #sealLater(): void {
    this.#sealAfterMs = this.#options.clock.monotonic() + this.#backOffMs;
    this.#backOffMs = Math.min(this.#backOffMs * 2, MAX_BACK_OFF_MS);
  }
}

/** Neighbouring commits, as many as make an event of bounded size. */
function* together(scan: WalScan): Generator<readonly ScannedCommit[]> {
  const most = Math.floor(MAX_EVENT_BYTES / scan.pageSize);
  let group: ScannedCommit[] = [];
  for (const commit of scan.commits) {
    const [first] = group;
    if (first && commit.lastFrame - first.firstFrame >= most) {
      yield group;
      group = [];
    }
    group.push(commit);
  }
  if (group.length > 0) yield group;
}

function allBackfilled(source: SourceDatabase): boolean {
  const state = source.files.readWalIndex();
  return state?.checkpoint.backfilledFrames === state?.header.mxFrame;
}
