import type { WalPosition } from "../../event/kinds.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { hasCode } from "../../runtime/errors.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { WalIndexState } from "../../sqlite/live-files.ts";
import type { Checkpointer } from "./checkpointer.ts";
import type { SourceDatabase } from "./source-database.ts";

/** In a WAL of so many frames there is time before its start is written over as far as what was not captured. */
const MIN_FRAMES = 1000;
/** Losing the race costs a comparison of all pages: what that takes seconds for is not risked. */
const MAX_DATABASE_BYTES = 2 * 1024 * 1024 * 1024;
/** How long the application gets to begin its WAL anew. */
const RESTART_MS = 10;
/** After a way made in vain; doubled every time. */
const VAIN_MS = 100;
const MAX_VAIN_MS = 5000;
/** The new generation had come half as far as what was not captured: the processors are too busy for this. */
const CLOSE_CALL_MS = 1000;
/** After commits were written over before they were captured; doubled every time. */
const LOST_MS = 60_000;
const MAX_LOST_MS = 3_600_000;

export interface RightOfWayOptions {
  readonly source: SourceDatabase;
  readonly checkpointer: Checkpointer;
  readonly clock: Clock;
  readonly position: () => WalPosition;
  /** Ships everything up to the state; `tail`: what stood behind the position when the WAL restarted. */
  readonly capture: (state: WalIndexState, tail?: Uint8Array) => Promise<void>;
}

/**
 * Gives a busy application's own checkpoints the right of way. Where it checkpoints at every commit beyond so many frames
 * (as SQLite does unless told otherwise), a pin that is handed on and on makes each of them end at it, in vain: that and a WAL
 * that grows cost the application more than everything else that capture does.
 *
 * So with everything captured the pin is let go until the application has finished a checkpoint and begun the WAL anew, a few
 * milliseconds, and taken again at once. What it committed in between stands behind what was captured until the new generation
 * has grown that far, and is read at once. The count of commits proves that nothing was missed.
 */
export class RightOfWay {
  readonly #options: RightOfWayOptions;
  #afterMs = 0;
  #vainMs = VAIN_MS;
  #lostMs = LOST_MS;

  constructor(options: RightOfWayOptions) {
    this.#options = options;
  }

  /** Whether checkpoints have come to our pin and get no further. */
  isDue({ header, checkpoint }: WalIndexState): boolean {
    const { source, clock } = this.#options;
    const { pinnedFrame } = source;
    const waiting = pinnedFrame > 0 && checkpoint.backfilledFrames >= pinnedFrame;
    const worth = header.mxFrame >= MIN_FRAMES && header.sizePages * header.pageSize <= MAX_DATABASE_BYTES;
    return waiting && worth && clock.monotonic() >= this.#afterMs;
  }

  /**
   * Whether the WAL has begun anew. Pinned before and after.
   * @throws WAL_GAP when commits were written over before they were captured
   */
  async give(): Promise<boolean> {
    const { checkpointer, source, clock } = this.#options;
    try {
      return await checkpointer.exclusively(async (worker) => {
        await worker.pin(source.path);
        try {
          const tail = await this.#untilRestarted(async (request) => worker.awaitRestart(request));
          this.#judge(tail !== undefined);
          await this.#options.capture(source.walIndex(), tail);
          crashPoint("way: captured");
          return tail !== undefined;
        } finally {
          await worker.unlock(source.path);
        }
      });
    } catch (error) {
      if (hasCode(error, "WAL_GAP")) {
        this.#afterMs = clock.monotonic() + this.#lostMs;
        this.#lostMs = Math.min(this.#lostMs * 2, MAX_LOST_MS);
      }
      throw error;
    }
  }

  /** The worker holds a pin meanwhile, but for the moments in which it waits for the restart. */
  async #untilRestarted(awaitRestart: AwaitRestart): Promise<Uint8Array | undefined> {
    const { source, capture, position } = this.#options;
    const { path, files } = source;
    await source.handOver(capture);
    const { pageSize } = source.walIndex().header;
    source.letGo();
    const { shmFd, walFd } = files;
    const tail = await awaitRestart({ path, shmFd, walFd, position: position(), pageSize, maxMs: RESTART_MS });
    source.pin();
    return tail;
  }

  #judge(restarted: boolean): void {
    const { source, clock, position } = this.#options;
    const close = source.walIndex().header.mxFrame > position().frame / 2;
    this.#vainMs = restarted ? VAIN_MS : Math.min(this.#vainMs * 2, MAX_VAIN_MS);
    const pauseMs = restarted ? (close ? CLOSE_CALL_MS : 0) : this.#vainMs;
    this.#afterMs = clock.monotonic() + pauseMs;
  }
}

type AwaitRestart = (request: {
  path: string;
  shmFd: number;
  walFd: number;
  position: WalPosition;
  pageSize: number;
  maxMs: number;
}) => Promise<Uint8Array | undefined>;
