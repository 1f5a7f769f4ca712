import { nearestName } from "../config/nearest-name.ts";
import { type Offset, offset } from "../event/positions.ts";
import type { ChangeLog, LogBounds } from "../log/change-log.ts";
import { decodeRecordHeader } from "../event/codec.ts";
import { recordAt } from "../log/log-reader.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { listMarks } from "./marks.ts";
import type { RestoreTarget } from "./restore-target.ts";
import { rfc3339 } from "./rfc3339.ts";
import { placed } from "./scan-log.ts";

/** A target found in the log: everything up to and including `offset`. */
export interface RestorePoint {
  readonly offset: Offset;
  /** Of the event at `offset`. */
  readonly timeMs: number;
  /** The moment that was asked for; that of the event when an offset was. */
  readonly momentMs: number;
  readonly bounds: LogBounds;
}

export interface ResolveOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** @throws OFFSET_NOT_FOUND, TIME_OUT_OF_RANGE, MARK_NOT_FOUND; the log must hold something */
export async function resolveTarget(
  log: ChangeLog,
  target: RestoreTarget,
  options: ResolveOptions,
): Promise<RestorePoint> {
  const bounds = await log.bounds();
  const at = await locate(log, target, { ...options, bounds });
  const timeMs = await timeAt(log, at);
  return { offset: at, timeMs, momentMs: target.kind === "time" ? target.timeMs : timeMs, bounds };
}

async function locate(
  log: ChangeLog,
  target: RestoreTarget,
  context: ResolveOptions & { bounds: LogBounds },
): Promise<Offset> {
  const { bounds } = context;
  switch (target.kind) {
    case "latest":
      return bounds.last;
    case "offset":
      if (target.offset < bounds.first || target.offset > bounds.last) throw offsetNotFound(log, target.offset, bounds);
      return target.offset;
    case "time":
      return locateTime(log, target, context);
    case "mark":
      return locateMark(log, target.name, context.signal);
    default:
      return target satisfies never;
  }
}

/** The last event at or before the time; the head for a time between it and now. */
async function locateTime(
  log: ChangeLog,
  target: { timeMs: number; text: string },
  { bounds, clock }: { bounds: LogBounds; clock: Clock },
): Promise<Offset> {
  const newestMs = await timeAt(log, bounds.last);
  if (target.timeMs > newestMs && target.timeMs > clock.now()) {
    throw new TidemarkError(
      "TIME_OUT_OF_RANGE",
      `${target.text} is in the future; the newest event, offset ${bounds.last}, is of ${rfc3339(newestMs)}`,
      {
        hint: "Name a time that has passed, or `--to latest`.",
      },
    );
  }
  const at = await log.locate(target.timeMs);
  if (at >= bounds.first) return at > bounds.last ? bounds.last : at;
  const oldestMs = await timeAt(log, bounds.first);
  throw new TidemarkError(
    "TIME_OUT_OF_RANGE",
    `${target.text} is before the log begins: its first event, offset ${bounds.first}, is of ${rfc3339(oldestMs)}`,
    {
      hint: `Name a time from ${rfc3339(oldestMs)} on.`,
    },
  );
}

async function timeAt(log: ChangeLog, at: Offset): Promise<number> {
  const record = await recordAt(log, at);
  return placed(log, at, () => decodeRecordHeader(record).timeMs);
}

async function locateMark(log: ChangeLog, name: string, signal: AbortSignal): Promise<Offset> {
  const marks = await listMarks(log, signal);
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
    `${log.location}: there is no mark ${JSON.stringify(name)}${near === undefined ? "" : `; did you mean ${JSON.stringify(near)}?`}`,
    {
      hint:
        marks.length === 0
          ? "No mark was ever set. `tidemark mark NAME` sets one."
          : `\`tidemark marks\` lists them; the newest: ${newest}.`,
    },
  );
}

function offsetNotFound(log: ChangeLog, wanted: Offset, { first, last }: LogBounds): TidemarkError {
  return new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${log.location}: offset ${wanted} is not there; it holds ${first} to ${last}`,
    {
      hint: `Name an offset from ${first} to ${last}; \`tidemark log\` lists them with their times.`,
    },
  );
}

/** Before the first event of a log that was never trimmed there is nothing at all. */
export const beforeFirst = (bounds: LogBounds): Offset => offset(bounds.first - 1);
