import { sleep, type Clock } from "../../runtime/clock.ts";

const MAX_SLICE_BYTES = 1024 * 1024;
/** At a low rate a slice is what may be read in this time: between two slices the pin is handed over. */
const SLICE_MS = 50;
/** Time lost (the log was slow) is made good for this much at most. */
const MAX_ARREARS_MS = 500;

/** Keeps a copy at its configured rate, the time that the work itself takes included. */
export class CopyPace {
  readonly sliceBytes: number;
  readonly #bytesPerMs: number | undefined;
  readonly #clock: Clock;
  #dueMs: number;

  constructor(bytesPerSecond: number | undefined, clock: Clock) {
    this.#bytesPerMs = bytesPerSecond && bytesPerSecond / 1000;
    this.sliceBytes = Math.min(MAX_SLICE_BYTES, (this.#bytesPerMs ?? Infinity) * SLICE_MS);
    this.#clock = clock;
    this.#dueMs = clock.monotonic();
  }

  /** Resolves when the next slice may be read, at the next turn of the event loop at the earliest. */
  async after(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    const nowMs = this.#clock.monotonic();
    const due = Math.max(this.#dueMs, nowMs - MAX_ARREARS_MS);
    this.#dueMs = due + (this.#bytesPerMs ? bytes / this.#bytesPerMs : 0);
    await sleep(Math.max(0, this.#dueMs - nowMs), signal);
  }
}
