import { nearestName } from "../config/nearest-name.ts";
import type { Offset } from "../event/positions.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { History, HistoryBounds } from "./history.ts";
import type { RestoreTarget } from "./restore-target.ts";
import { rfc3339 } from "./rfc3339.ts";

/** A target found in the log: everything up to and including `offset`. */
export interface RestorePoint {
  readonly offset: Offset;
  /** Of the event at `offset`. */
  readonly timeMs: number;
  /** The moment that was asked for; that of the event when an offset was. */
  readonly momentMs: number;
  readonly bounds: HistoryBounds;
}

export interface ResolveOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** @throws OFFSET_NOT_FOUND, TIME_OUT_OF_RANGE, MARK_NOT_FOUND; the log must hold something */
export async function resolveTarget(
  history: History,
  target: RestoreTarget,
  options: ResolveOptions,
): Promise<RestorePoint> {
  const bounds = await history.bounds();
  const at = await locate(history, target, { ...options, bounds });
  const timeMs = await history.timeAt(at);
  return { offset: at, timeMs, momentMs: target.kind === "time" ? target.timeMs : timeMs, bounds };
}

async function locate(
  history: History,
  target: RestoreTarget,
  context: ResolveOptions & { bounds: HistoryBounds },
): Promise<Offset> {
  const { bounds } = context;
  switch (target.kind) {
    case "latest":
      return bounds.last;
    case "offset":
      if (target.offset < bounds.first || target.offset > bounds.last)
        throw offsetNotFound(history, target.offset, bounds);
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
  { bounds, clock }: { bounds: HistoryBounds; clock: Clock },
): Promise<Offset> {
  const newestMs = await history.timeAt(bounds.last);
  if (target.timeMs > newestMs && target.timeMs > clock.now()) {
    throw new TidemarkError(
      "TIME_OUT_OF_RANGE",
      `${target.text} is in the future; the newest event, offset ${bounds.last}, is of ${rfc3339(newestMs)}`,
      {
        hint: "Name a time that has passed, or `--to latest`.",
      },
    );
  }
  const at = await history.locate(target.timeMs);
  if (at >= bounds.first) return at > bounds.last ? bounds.last : at;
  const oldestMs = await history.timeAt(bounds.first);
  throw new TidemarkError(
    "TIME_OUT_OF_RANGE",
    `${target.text} is before the log begins: its first event, offset ${bounds.first}, is of ${rfc3339(oldestMs)}`,
    {
      hint: `Name a time from ${rfc3339(oldestMs)} on.`,
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

function offsetNotFound(history: History, wanted: Offset, { first, last }: HistoryBounds): TidemarkError {
  return new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${history.location}: offset ${wanted} is not there; it holds ${first} to ${last}`,
    {
      hint: `Name an offset from ${first} to ${last}; \`tidemark log\` lists them with their times.`,
    },
  );
}
