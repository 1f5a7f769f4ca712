import { offset, type Offset } from "../event/positions.ts";
import type { History } from "../restore/history.ts";
import type { Clock } from "../runtime/clock.ts";

export interface PositionOptions {
  readonly text: string;
  /** A time that falls between two events means the later one as a beginning, the earlier one as an end. */
  readonly edge: "from" | "to";
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Offset of an end of a range that somebody gave as an offset, a time, `latest` or mark:NAME. @throws TIME_INVALID, MARK_NOT_FOUND */
export async function positionOf(history: History, { text, edge, clock, signal }: PositionOptions): Promise<Offset> {
  const [{ parseRestoreTarget }, { resolveTarget }] = await Promise.all([
    import("../restore/restore-target.ts"),
    import("../restore/resolve-target.ts"),
  ]);
  const target = parseRestoreTarget(text);
  switch (target.kind) {
    case "latest":
      return (await history.bounds()).last;
    case "offset":
      return target.offset;
    case "time":
      return edge === "to" ? history.locate(target.timeMs) : offset((await history.locate(target.timeMs - 1)) + 1);
    case "mark":
      return (await resolveTarget(history, target, { clock, signal })).offset;
    default:
      return target satisfies never;
  }
}
