/**
 * So long after it was marked an object is removed at the earliest. In it fit: a writer that goes by an index of before the
 * mark (2 hours, see index-view.ts) and the time until what it writes is there; a restore without a lock; clocks of hosts that
 * differ; a store that lists late.
 */
export const GRACE_MS = 24 * 3_600_000;
