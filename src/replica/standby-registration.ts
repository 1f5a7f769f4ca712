import os from "node:os";

import type { Logger } from "pino";

import { BEFORE_FIRST, type Offset } from "../event/positions.ts";
import type { ChangeLog, StandbyPosition } from "../log/change-log.ts";
import type { Clock } from "../runtime/clock.ts";
import { toTidemarkError } from "../runtime/errors.ts";
import { Waker } from "../runtime/waker.ts";

/** A standby that moves says so this often. */
const EVERY_MS = 60_000;
/** One that stands still says that it is there. */
const SEEN_MS = 60 * 60_000;

export interface StandbyRegistrationOptions {
  /** Of the standby. */
  readonly id: string;
  readonly directory: string;
  readonly log: ChangeLog;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Asked whenever something is said. */
  readonly position: () => StandbyPosition;
}

/** Says beside the log how far a standby is, so that what it needs is not trimmed. Failing at it does not hold it up. */
export class StandbyRegistration {
  readonly #options: StandbyRegistrationOptions;
  readonly #waker = new Waker();
  #offset: Offset | undefined;
  #said: { readonly offset: Offset; readonly atMs: number } | undefined;
  #problem: string | undefined;

  constructor(options: StandbyRegistrationOptions) {
    this.#options = options;
  }

  get id(): string {
    return this.#options.id;
  }

  /** Nothing up to here is needed any more. */
  get offset(): Offset {
    return this.#offset ?? BEFORE_FIRST;
  }

  /** What begins from here is said at once, what moves on after a while. */
  at(offset: Offset, { begins = false } = {}): void {
    this.#offset = offset;
    if (begins) this.saySoon();
  }

  /** Somebody waits to hear of it. */
  saySoon(): void {
    this.#said = undefined;
    this.#waker.wake();
  }

  async run(): Promise<void> {
    const { signal } = this.#options;
    const stop = (): void => this.#waker.wake();
    signal.addEventListener("abort", stop, { once: true });
    while (!signal.aborted) {
      await this.#say();
      await this.#waker.wait(EVERY_MS);
    }
    signal.removeEventListener("abort", stop);
    await this.#say();
  }

  async #say(): Promise<void> {
    const { id, directory: standby, log, clock, logger, position } = this.#options;
    const offset = this.#offset;
    const atMs = clock.now();
    if (offset === undefined) return;
    if (this.#said && this.#said.offset === offset && atMs - this.#said.atMs < SEEN_MS) return;
    // Whoever asks from now on asks for more than this says.
    this.#said = { offset, atMs };
    try {
      await log.register({ id, host: os.hostname(), standby, offset, atMs, position: position() });
      this.#problem = undefined;
    } catch (thrown) {
      const { code, hint, message } = toTidemarkError(thrown);
      this.#said = undefined;
      const isNews = code !== this.#problem && !this.#options.signal.aborted;
      this.#problem = code;
      if (isNews)
        logger.warn(
          { code, hint },
          `the log does not know how far this standby is, and may be trimmed past it: ${message}`,
        );
    }
  }
}
