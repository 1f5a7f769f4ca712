/** Called once: without an argument when there is room, with the reason when there will be none. */
export type Admission = (refused?: Error) => void;

interface Waiter {
  readonly bytes: number;
  readonly admit: Admission;
  readonly stop: () => void;
}

/**
 * Bounds the bytes under way. Room is granted in the order it was asked for, and synchronously (callbacks instead of
 * promises): a call that finds room must not overtake one that was just given room.
 */
export class ByteWindow {
  readonly #capacity: number;
  #waiting: Waiter[] = [];
  #used = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** More than the capacity gets in alone. `aborted` makes the error for callers that leave because `signal` aborted. */
  take(bytes: number, options: { signal: AbortSignal; aborted: () => Error }, admit: Admission): void {
    if (options.signal.aborted) return admit(options.aborted());
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#used += bytes;
      return admit();
    }
    const leave = (): void => this.#leave(waiter, options.aborted());
    const waiter: Waiter = {
      bytes,
      admit,
      stop: () => options.signal.removeEventListener("abort", leave),
    };
    this.#waiting.push(waiter);
    options.signal.addEventListener("abort", leave, { once: true });
  }

  give(bytes: number): void {
    this.#used -= bytes;
    for (let next = this.#waiting[0]; next && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#used += next.bytes;
      this.#waiting.shift();
      next.stop();
      next.admit();
    }
  }

  refuseWaiting(reason: Error): void {
    const refused = this.#waiting;
    this.#waiting = [];
    for (const waiter of refused) {
      waiter.stop();
      waiter.admit(reason);
    }
  }

  /** Takes everyone behind along: what they would send can only follow what this one did not send. */
  #leave(waiter: Waiter, reason: Error): void {
    const index = this.#waiting.indexOf(waiter);
    if (index === -1) return;
    const leaving = this.#waiting.splice(index);
    for (const gone of leaving) {
      gone.stop();
      gone.admit(reason);
    }
  }

  #fits(bytes: number): boolean {
    return this.#used === 0 || this.#used + bytes <= this.#capacity;
  }
}
