import { type Offset, offset } from "../event/positions.ts";
import type { LogBounds } from "./change-log.ts";

/**
 * Last offset within `bounds` for which `holds` is true, `first - 1` when it is true for none. `holds` must be true up
 * to some offset and false after it, as times and epochs in a log are. About log2(n) calls.
 */
export async function lastOffsetWhere(
  bounds: Omit<LogBounds, "bytes">,
  holds: (at: Offset) => Promise<boolean> | boolean,
): Promise<Offset> {
  let low: number = bounds.first - 1;
  let high: number = bounds.last;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (await holds(offset(middle))) low = middle;
    else high = middle - 1;
  }
  return offset(low);
}
