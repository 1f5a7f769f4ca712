import fs from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";

import { type Clock, sleep } from "../../runtime/clock.ts";

const TICK_MS = 250;
/** An event loop that stood still for this long may have let the kernel's queue run over. */
const STALLED_MS = 1000;
const QUEUE_LENGTH_FILE = "/proc/sys/fs/inotify/max_queued_events";
const DEFAULT_QUEUE_LENGTH = 16_384;
/** Databases of which the WAL is watched read from the same queue. */
const SAFE_SHARE = 0.5;

/**
 * Suspects that changes passed unannounced: libuv does not say when the kernel's queue ran over. It reads all of the queue
 * in one turn of the event loop, so a turn with few events shows that it did not.
 */
export class LostEvents {
  readonly #clock: Clock;
  readonly #onLost: (why: string) => void;
  readonly #most = Math.floor(queueLength() * SAFE_SHARE);
  #inTurn = 0;

  constructor(clock: Clock, onLost: (why: string) => void) {
    this.#clock = clock;
    this.#onLost = onLost;
  }

  /** One was announced. */
  count(): void {
    if (this.#inTurn === 0) void nextTurn().then(() => (this.#inTurn = 0));
    this.#inTurn += 1;
    if (this.#inTurn === this.#most) this.#onLost(`${this.#most} changes were announced at once`);
  }

  /** Until `signal` aborts. */
  async watchClock(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const beganMs = this.#clock.monotonic();
      await sleep(TICK_MS, signal);
      const stoodMs = this.#clock.monotonic() - beganMs - TICK_MS;
      if (stoodMs >= STALLED_MS) this.#onLost(`the event loop stood still for ${Math.round(stoodMs)} ms`);
    }
  }
}

function queueLength(): number {
  try {
    return Number.parseInt(fs.readFileSync(QUEUE_LENGTH_FILE, "utf8"), 10) || DEFAULT_QUEUE_LENGTH;
  } catch {
    return DEFAULT_QUEUE_LENGTH;
  }
}
