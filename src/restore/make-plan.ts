import { nearestName } from "../config/nearest-name.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { RestorePlanner, type RestorePlan } from "./plan.ts";
import { beforeFirst, type RestorePoint } from "./resolve-target.ts";
import type { RestoreTarget } from "./restore-target.ts";
import { rfc3339 } from "./rfc3339.ts";
import { decodeUnlessPart, scanRecords } from "./scan-log.ts";

/**
 * How much of other databases' commits is read past the target to learn whether a silent database was in a gap then.
 * Parts of large transactions do not count: each of them is closed some time.
 */
const LOOK_AHEAD_BYTES = 1024 * 1024 * 1024;

export interface MakePlanOptions {
  readonly target: RestoreTarget;
  readonly point: RestorePoint;
  /** Undefined: all of them. */
  readonly databases: readonly string[] | undefined;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

/** Reads the log once, without page images of unfinished transactions. @throws as the functions below, INTERRUPTED */
export async function makePlan(log: ChangeLog, options: MakePlanOptions): Promise<RestorePlan> {
  const { point, target } = options;
  const { first } = point.bounds;
  const planner = new RestorePlanner({ firstOffset: first, targetOffset: point.offset, momentMs: point.momentMs });
  await readToTarget(log, planner, options);
  await readAhead(log, planner, options);
  if (planner.names.length === 0) throw nothingYet(planner, target, point);
  return planner.plan(wantedNames(planner.names, options));
}

async function readToTarget(log: ChangeLog, planner: RestorePlanner, options: MakePlanOptions): Promise<void> {
  const { point, signal, onProgress } = options;
  const after = beforeFirst(point.bounds);
  for await (const record of scanRecords(log, { after, through: point.offset, signal })) {
    const event = decodeUnlessPart(log, record);
    if (event) planner.take(event);
    const done = record.header.offset - after;
    if (done % 1024 === 0) onProgress(done, point.offset - after);
  }
}

/** Only for knowing about gaps: damage behind the target is no reason not to restore what is before it. */
async function readAhead(log: ChangeLog, planner: RestorePlanner, { point, signal }: MakePlanOptions): Promise<void> {
  let bytes = 0;
  try {
    for await (const record of scanRecords(log, { after: point.offset, through: point.bounds.last, signal })) {
      if (planner.decided || bytes > LOOK_AHEAD_BYTES) return;
      const event = decodeUnlessPart(log, record);
      if (!event) continue;
      planner.take(event);
      bytes += event.bytes;
    }
  } catch (error) {
    if (!hasCode(error, "RECORD_INVALID", "RECORD_VERSION", "LOG_GAP", "LOG_REGRESSED")) throw error;
  }
}

/** @throws USAGE naming what is known */
function wantedNames(known: readonly string[], { databases, point }: MakePlanOptions): readonly string[] {
  const unknown = databases?.find((name) => !known.includes(name));
  if (unknown === undefined) return databases ? [...new Set(databases)] : known;
  const near = nearestName(unknown, known);
  throw new TidemarkError(
    "USAGE",
    `the log holds no database ${JSON.stringify(unknown)} at offset ${point.offset}${near === undefined ? "" : `; did you mean ${near}?`}`,
    { hint: `It holds ${known.join(", ")}.` },
  );
}

function nothingYet(planner: RestorePlanner, target: RestoreTarget, point: RestorePoint): TidemarkError {
  const { firstAhead: ahead } = planner;
  const named = target.kind === "time" ? target.text : `offset ${point.offset}`;
  const later =
    ahead && `the first, ${ahead.database}, is complete from ${rfc3339(ahead.timeMs)}, offset ${ahead.offset}, on`;
  const code = target.kind === "time" ? "TIME_OUT_OF_RANGE" : "OFFSET_NOT_FOUND";
  return new TidemarkError(code, `at ${named} the log holds no complete database yet${later ? `; ${later}` : ""}`, {
    hint: ahead
      ? `Name a point from there on, for instance \`--to ${ahead.offset}\`.`
      : "Wait until the first copy is complete: `tidemark status` shows it.",
  });
}
