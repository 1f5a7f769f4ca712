import type { Offset } from "../event/positions.ts";
import { TidemarkError } from "../runtime/errors.ts";

interface Waiter {
  readonly offset: Offset;
  readonly resolve: () => void;
  readonly reject: (error: TidemarkError) => void;
}

/** Those who wait for an offset to be applied. */
export class AppliedWaiters {
  readonly #waiters = new Set<Waiter>();
  #ended: TidemarkError | undefined;

  wait(offset: Offset, signal: AbortSignal): Promise<void> {
    if (this.#ended) return Promise.reject(this.#ended);
    if (signal.aborted) return Promise.reject(interrupted(offset));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { offset, resolve, reject };
    const abort = (): void => {
      this.#waiters.delete(waiter);
      reject(interrupted(offset));
    };
    this.#waiters.add(waiter);
    signal.addEventListener("abort", abort, { once: true });
    return promise.finally(() => signal.removeEventListener("abort", abort));
  }

  /** Everything up to `applied` is visible. */
  resolveThrough(applied: Offset): void {
    for (const waiter of this.#waiters) {
      if (waiter.offset > applied) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }

  /** Nothing more will be applied. */
  end(reason: TidemarkError): void {
    this.#ended = reason;
    for (const waiter of this.#waiters) waiter.reject(reason);
    this.#waiters.clear();
  }
}

function interrupted(offset: Offset): TidemarkError {
  return new TidemarkError("INTERRUPTED", `offset ${offset} was not yet applied when the wait was ended`, {
    hint: "`tidemark status` shows how far the standby is.",
  });
}
