/** What several benchmark programs share: sleeping finely, quantiles. */
const cell = new Int32Array(new SharedArrayBuffer(4));

/** Blocks the thread, to fractions of a millisecond. */
export function pauseMs(ms: number): void {
  if (ms > 0) Atomics.wait(cell, 0, 0, ms);
}

export interface Quantiles {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export function quantiles(values: readonly number[]): Quantiles {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? NaN };
}
