import { type Offset, offset } from "../event/positions.ts";
import type { ChangeLog } from "./change-log.ts";
import { isPlain, keyOffsetFor } from "./key-offsets.ts";

/**
 * How far a log may be trimmed when nothing up to `through` is needed any more: what is kept needs the announcement of its
 * key. That is said again every 64 MiB, so this gives up little.
 */
export async function trimBound(log: ChangeLog, through: Offset, signal: AbortSignal): Promise<Offset> {
  const { last } = await log.bounds();
  // The newest record outlives every trim.
  const after = offset(Math.min(through, last - 1));
  if (after < 1) return through;
  for await (const records of log.read(after, { follow: false, signal })) {
    for (const { data } of records) {
      const needed = keyOffsetFor(data);
      if (needed !== undefined) return offset(Math.min(through, needed - 1));
      // Whoever begins to encrypt after it announces the key first.
      if (isPlain(data)) return through;
    }
  }
  return through;
}
