import type { BaseConfig } from "../../config/config.ts";

export interface SinceBase {
  readonly nowMs: number;
  /** When the newest base was made; undefined when there is none. */
  readonly madeMs: number | undefined;
  /** Archived since, heartbeats left out. */
  readonly changedBytes: number;
}

/** Ms until the next base is due, as far as is known now; Infinity when nothing changed. */
export function baseDueMs({ everyMs, bytes }: BaseConfig, { nowMs, madeMs, changedBytes }: SinceBase): number {
  if (madeMs === undefined) return 0;
  if (changedBytes === 0) return Infinity;
  const sinceMs = nowMs - madeMs;
  // A clock that was put back must not put the base off.
  return changedBytes >= bytes || sinceMs < 0 ? 0 : Math.max(0, everyMs - sinceMs);
}
