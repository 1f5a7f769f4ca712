/**
 * A copy or repair whose closing record is not in the log yet. The index is exactly as new as its parts, so nothing else
 * of the database may be shipped before it is closed; whoever goes on with it, in this process or the next, reads the
 * database again and ships only what differs.
 */
export interface OpenCopy {
  readonly transaction: number;
  /** Parts in the log. */
  readonly parts: number;
  readonly cause: "copy" | "repair";
  /** Checksum and size of what the log held before it. */
  readonly before: bigint;
  readonly sizeBefore: number;
  readonly gapSinceMs: number;
}

/**
 * Parts at the log's head of which nothing but the log tells: of a large commit, or of a repair that died young. The index
 * is without them. They are void when the WAL proves that nothing passed, and the beginning of the repair when it does not.
 */
export interface LeftOver {
  readonly transaction: number;
  readonly parts: number;
  readonly hashes: ReadonlyMap<number, bigint>;
}
