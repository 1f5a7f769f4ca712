import { setTimeout as sleep } from "node:timers/promises";

/**
 * Tries `look` until it gives something (neither undefined nor false) and returns that. Everything a test waits for has
 * a deadline: past it the error names what was waited for and what `look` threw last.
 */
export async function waitFor<T>(
  what: string,
  look: () => T | Promise<T>,
  options: { timeoutMs?: number; everyMs?: number } = {},
): Promise<Exclude<T, undefined | false>> {
  const { timeoutMs = 30_000, everyMs = 25 } = options;
  const deadline = performance.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      const found = await look();
      if (found !== undefined && found !== false) return found as Exclude<T, undefined | false>;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() > deadline) {
      throw new Error(`waited ${timeoutMs} ms in vain: ${what}`, { cause: lastError });
    }
    await sleep(everyMs);
  }
}

/** `promise`, or an error that names `what` after `timeoutMs`. */
export async function within<T>(what: string, timeoutMs: number, promise: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = sleep(timeoutMs, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}
