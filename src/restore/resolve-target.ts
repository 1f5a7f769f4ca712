import { nearestName } from "../config/nearest-name.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { RestorableRange } from "./coverage.ts";
import type { History } from "./history.ts";
import type { RestoreTarget } from "./restore-target.ts";
import { rfc3339 } from "./rfc3339.ts";

/** A target found in the log: everything up to and including `offset`. */
export interface RestorePoint {
  readonly offset: Offset;
  /** Of the event at `offset`. */
  readonly timeMs: number;
  /** The moment that was asked for; that of the event when an offset was. */
  readonly momentMs: number;
  /** The events that lead to it, and those that follow without a gap. */
  readonly bounds: RestorableRange;
}

export interface ResolveOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** @throws OFFSET_NOT_FOUND, TIME_OUT_OF_RANGE, MARK_NOT_FOUND; there must be something */
export async function resolveTarget(
  history: History,
  target: RestoreTarget,
  { clock, signal }: ResolveOptions,
): Promise<RestorePoint> {
  const ranges = await history.ranges();
  const newest = ranges.at(-1);
  if (!newest) throw nothingRestorable(history);
  const context = { ranges, newest, clock, signal };
  const at = await locate(history, target, context);
  const bounds = ranges.find(({ first, last }) => first <= at && at <= last);
  if (!bounds) throw await notRestorable(history, at, context);
  const timeMs = await history.timeAt(at);
  return { offset: at, timeMs, momentMs: target.kind === "time" ? target.timeMs : timeMs, bounds };
}

interface Context extends ResolveOptions {
  readonly ranges: readonly RestorableRange[];
  readonly newest: RestorableRange;
}

async function locate(history: History, target: RestoreTarget, context: Context): Promise<Offset> {
  switch (target.kind) {
    case "latest":
      // Not the last that can be restored: that events are there to which nothing leads must be said.
      return (await history.bounds()).last;
    case "offset":
      return target.offset;
    case "time":
      return locateTime(history, target, context);
    case "mark":
      return locateMark(history, target.name, context.signal);
    default:
      return target satisfies never;
  }
}

/** The last event at or before the time; the head for a time between it and now. */
async function locateTime(
  history: History,
  target: { timeMs: number; text: string },
  { ranges, newest, clock }: Context,
): Promise<Offset> {
  const newestMs = await history.timeAt(newest.last);
  if (target.timeMs > newestMs && (await history.locate(target.timeMs)) > newest.last)
    throw await between(history, target.text, { range: newest, lastMs: newestMs, ranges });
  if (target.timeMs >= newestMs) {
    if (target.timeMs === newestMs || target.timeMs <= clock.now()) return newest.last;
    throw new TidemarkError(
      "TIME_OUT_OF_RANGE",
      `${target.text} is in the future; the newest event, offset ${newest.last}, is of ${rfc3339(newestMs)}`,
      { hint: "Name a time that has passed, or `--to latest`." },
    );
  }
  const at = await history.locate(target.timeMs);
  const range = ranges.findLast(({ first }) => first <= at);
  if (!range) throw await beforeAll(history, target, ranges);
  if (at < range.last) return at;
  // What happened between its last event and that time is gone.
  const lastMs = await history.timeAt(range.last);
  if (lastMs === target.timeMs) return range.last;
  throw await between(history, target.text, { range, lastMs, ranges });
}

async function beforeAll(
  history: History,
  target: { text: string },
  ranges: readonly RestorableRange[],
): Promise<TidemarkError> {
  const first = ranges[0]?.first ?? offset(1);
  const oldestMs = await history.timeAt(first);
  return new TidemarkError(
    "TIME_OUT_OF_RANGE",
    `${target.text} is before the first point that can be restored from ${history.location}: offset ${first}, ${rfc3339(oldestMs)}`,
    { hint: `Name a time from ${rfc3339(oldestMs)} on.` },
  );
}

async function between(
  history: History,
  asked: string,
  { range, lastMs, ranges }: { range: RestorableRange; lastMs: number; ranges: readonly RestorableRange[] },
): Promise<TidemarkError> {
  const next = ranges.find(({ first }) => first > range.last);
  const after = next && `, the next ${rfc3339(await history.timeAt(next.first))}, offset ${next.first}`;
  return new TidemarkError(
    "TIME_OUT_OF_RANGE",
    `${asked} is not retained any more: the last point before it is ${rfc3339(lastMs)}, offset ${range.last}${after ?? ""}`,
    { hint: "`tidemark restore --list` shows what can be restored." },
  );
}

async function notRestorable(history: History, at: Offset, { ranges }: Context): Promise<TidemarkError> {
  const [only] = ranges;
  const bounds = await history.bounds();
  if (only && ranges.length === 1 && (at < bounds.first || at > bounds.last)) return offsetNotFound(history, at, only);
  const near = [ranges.findLast(({ last }) => last < at)?.last, ranges.find(({ first }) => first > at)?.first];
  const nearest = near.filter((one) => one !== undefined).join(" and ");
  return new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${history.location}: offset ${at} cannot be restored; the nearest that can: ${nearest}`,
    { hint: "`tidemark restore --list` shows what can be restored." },
  );
}

function nothingRestorable(history: History): TidemarkError {
  return new TidemarkError(
    "BASE_NOT_FOUND",
    `${history.location}: it holds no base, and not all events from the first on`,
    {
      hint: "Nothing can be restored from it before its first base is made: `tidemark base create` makes one.",
    },
  );
}

async function locateMark(history: History, name: string, signal: AbortSignal): Promise<Offset> {
  const marks = await history.marks(signal);
  const found = marks.findLast((mark) => mark.name === name);
  if (found) return found.offset;
  const near = nearestName(
    name,
    marks.map((mark) => mark.name),
  );
  const newest = marks
    .slice(-5)
    .map((mark) => mark.name)
    .join(", ");
  throw new TidemarkError(
    "MARK_NOT_FOUND",
    `${history.location}: there is no mark ${JSON.stringify(name)}${near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`}`,
    {
      hint:
        marks.length === 0
          ? "No mark was ever set. `tidemark mark NAME` sets one."
          : `\`tidemark marks\` lists them; the newest: ${newest}.`,
    },
  );
}

function offsetNotFound(history: History, wanted: Offset, { first, last }: RestorableRange): TidemarkError {
  return new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${history.location}: offset ${wanted} is not there; it holds ${first} to ${last}`,
    {
      hint: `Name an offset from ${first} to ${last}; \`tidemark log\` lists them with their times.`,
    },
  );
}
