import { sleep, type Clock } from "../../runtime/clock.ts";

const TICK_MS = 1000;
/** A log that acknowledged nothing for this long is away, not slow. */
const STALLED_AFTER_MS = 3000;

export interface LogRoomOptions {
  /** Resolves when the log has room. Rejects when the log refused an append. */
  readonly room: () => Promise<void>;
  /** Whether so little is unacknowledged that nobody need wait. */
  readonly keepsUp: () => boolean;
  /** Offset acknowledged last: tells a slow log from one that is away. */
  readonly acknowledged: () => number;
  readonly clock: Clock;
}

/** Waits for room in the log, and knows when the log is away. */
export class LogRoom {
  readonly #options: LogRoomOptions;

  constructor(options: LogRoomOptions) {
    this.#options = options;
  }

  /** `whileAway` is called every second in which the log is away; what it throws ends the wait. */
  async wait(whileAway: () => void): Promise<void> {
    if (this.#options.keepsUp()) return;
    const settled = new AbortController();
    const room = this.#options.room().finally(() => settled.abort());
    room.catch(() => undefined);
    const progress = { at: -1, sinceMs: 0 };
    while (!settled.signal.aborted) {
      await sleep(TICK_MS, settled.signal);
      if (!settled.signal.aborted && this.#isAway(progress)) whileAway();
    }
    await room;
  }

  #isAway(progress: { at: number; sinceMs: number }): boolean {
    const nowMs = this.#options.clock.monotonic();
    const at = this.#options.acknowledged();
    if (at !== progress.at) Object.assign(progress, { at, sinceMs: nowMs });
    return nowMs - progress.sinceMs >= STALLED_AFTER_MS;
  }
}
