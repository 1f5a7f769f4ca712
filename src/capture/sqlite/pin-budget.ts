/** A database that is held open, as the budget sees it. */
export interface PinHolder {
  /** When it last showed a sign of life, monotonic ms. */
  readonly movedAtMs: number;
  /** Whether it could be let go of now: it is followed, nothing is being copied. */
  readonly restable: boolean;
  /** Asks it to rest as soon as it can. */
  rest(): void;
}

interface Waiter {
  readonly holder: PinHolder;
  readonly granted: () => void;
}

/**
 * So many databases are held open at once: connections, descriptors, a pin. Who wants to be and finds the budget used
 * up waits until the quietest one that is makes room. First come, first served.
 */
export class PinBudget {
  readonly #max: number;
  readonly #holders = new Set<PinHolder>();
  readonly #waiting: Waiter[] = [];
  /** Holders that were asked to rest and have not ended yet. */
  readonly #asked = new Set<PinHolder>();

  constructor(max: number) {
    this.#max = max;
  }

  async take(holder: PinHolder): Promise<void> {
    if (this.#holders.size < this.#max && this.#waiting.length === 0) return void this.#holders.add(holder);
    const turn = Promise.withResolvers<void>();
    this.#waiting.push({ holder, granted: turn.resolve });
    this.press();
    await turn.promise;
  }

  release(holder: PinHolder): void {
    this.#holders.delete(holder);
    this.#asked.delete(holder);
    while (this.#holders.size < this.#max) {
      const next = this.#waiting.shift();
      if (!next) return;
      this.#holders.add(next.holder);
      next.granted();
    }
    this.press();
  }

  /** Asks the quietest to make room for those who wait. To be called, too, when a holder becomes one that can rest. */
  press(): void {
    while (this.#asked.size < this.#waiting.length) {
      const quietest = this.#quietest();
      if (!quietest) return;
      this.#asked.add(quietest);
      quietest.rest();
    }
  }

  #quietest(): PinHolder | undefined {
    let quietest: PinHolder | undefined;
    for (const holder of this.#holders) {
      if (!holder.restable || this.#asked.has(holder)) continue;
      if (!quietest || holder.movedAtMs < quietest.movedAtMs) quietest = holder;
    }
    return quietest;
  }
}
