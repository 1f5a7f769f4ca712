import type { Clock } from "../../runtime/clock.ts";

/** Commits a second from which on looks come at a steady pace, and commits of one look share an event. */
const HURRIED_PER_SECOND = 2000;
const WINDOW_MS = 50;

/** How fast commits come, over the last window. */
export class Pace {
  readonly #clock: Clock;
  #windowAtMs: number;
  #commits = 0;
  #hurried = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#windowAtMs = clock.monotonic();
  }

  get hurried(): boolean {
    return this.#hurried;
  }

  /** A look brought so many commits. */
  saw(commits: number): void {
    this.#commits += commits;
    const passedMs = this.#clock.monotonic() - this.#windowAtMs;
    if (passedMs < WINDOW_MS) return;
    this.#hurried = (this.#commits / passedMs) * 1000 >= HURRIED_PER_SECOND;
    this.#windowAtMs += passedMs;
    this.#commits = 0;
  }
}
