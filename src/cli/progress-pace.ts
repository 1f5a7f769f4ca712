import { formatDuration, formatSize } from "../config/units.ts";

export interface Progress {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  /** Of `done` and `total`; undefined: things of some kind. */
  readonly unit?: "bytes";
}

/** Before that nothing sensible can be said. */
const LEAST_MS = 1000;
const STEP_MS = 1000;

/** How fast a phase goes and how long it will still take, from its beginning to now. */
export class Pace {
  #phase: string | undefined;
  #startMs = 0;
  #startDone = 0;

  /** `230 MiB/s, 12 s left`; "" while it is not known. */
  of({ phase, done, total, unit }: Progress, nowMs: number): string {
    if (phase !== this.#phase) {
      this.#phase = phase;
      this.#startMs = nowMs;
      this.#startDone = done;
    }
    const elapsedMs = nowMs - this.#startMs;
    const gone = done - this.#startDone;
    if (elapsedMs < LEAST_MS || gone <= 0) return "";
    const leftMs = Math.ceil((Math.max(0, total - done) * elapsedMs) / gone / STEP_MS) * STEP_MS;
    const left = `${formatDuration(leftMs)} left`;
    return unit === "bytes" ? `${formatSize((gone * 1000) / elapsedMs)}/s, ${left}` : left;
  }
}
