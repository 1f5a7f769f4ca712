import { sleep } from "./clock.ts";
import { TidemarkError } from "./errors.ts";

export interface RetryOptions {
  readonly signal: AbortSignal;
  readonly firstDelayMs?: number;
  readonly maxDelayMs?: number;
  /** Whether trying the same again is of any use, beyond what the error says. */
  readonly useful?: () => boolean;
  /** Called before each wait, to log it. */
  readonly onRetry?: (error: TidemarkError, delayMs: number) => void;
}

/**
 * Runs `attempt` until it succeeds, with exponential back-off and jitter, for as long as its error says itself that a
 * retry can help. Throws the last error when it says it cannot, or when `signal` aborts.
 */
export async function retry<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { signal, firstDelayMs = 100, maxDelayMs = 10_000 } = options;
  for (let delayMs = firstDelayMs; ; delayMs = Math.min(delayMs * 2, maxDelayMs)) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof TidemarkError) || !error.retryable || signal.aborted || options.useful?.() === false)
        throw error;
      const jitteredMs = delayMs * (0.75 + Math.random() / 2);
      options.onRetry?.(error, jitteredMs);
      await sleep(jitteredMs, signal);
      if (signal.aborted) throw error;
    }
  }
}
