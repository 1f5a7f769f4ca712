import type { Offset } from "../event/positions.ts";
import type { CheckResult } from "./check-database.ts";
import { hex } from "./database-builder.ts";
import type { ExtractedTable } from "./extract-tables.ts";
import type { Refusals } from "./finish-trees.ts";
import type { PlannedRestore } from "./make-plan.ts";
import type { PhasesMs } from "./phase-times.ts";
import type { EventsToRead } from "./plan-base.ts";
import type { PlannedDatabase, PlannedGap } from "./plan.ts";
import { rfc3339 } from "./rfc3339.ts";
import type { TargetDirectory } from "./target-directory.ts";
import type { TreeSummary } from "./tree-plan.ts";

export interface ReportedDatabase {
  readonly name: string;
  readonly pages: number;
  readonly pageSize: number;
  readonly bytes: number;
  /** Its last commit at or before the restored point. */
  readonly offset: Offset;
  readonly at: string;
  /** Rolling checksum of the log, 16 hex digits; equal to that of the file read back. */
  readonly checksum: string;
}

export interface RestoredDatabase extends ReportedDatabase {
  /** Of the file as handed over, hex. */
  readonly sha256: string;
  /** `ok`, or why SQLite could not check it (it needs code of the application's). */
  readonly integrity: string;
  /** `ok`, `N violations` (facts of the application's data, bit for bit as on the primary), or why it was not checked. */
  readonly foreignKeys: string;
}

/** Commits in this stretch were not seen one by one, and the restored point lies in it. */
export interface ReportedGap {
  readonly database: string;
  readonly since: string;
  readonly until: string;
  /** Nearest points that are exact. */
  readonly exactBefore: Offset;
  readonly exactFrom: Offset;
}

interface ReportBase {
  readonly ok: true;
  /** Last event that is in the result, and its time. */
  readonly offset: Offset;
  readonly at: string;
  /** Absolute path. */
  readonly target: string;
  /** Of all trees together. */
  readonly files: { readonly count: number; readonly bytes: number };
  readonly trees: readonly TreeSummary[];
  /** Whether every file had been captured that belonged to the commits up to this point. */
  readonly consistent: boolean;
  /** The newest point at or before this one of which that is known; null when there is none. */
  readonly nearestConsistent: { readonly offset: Offset; readonly at: string } | null;
  readonly gaps: readonly ReportedGap[];
  /** What a repository had to begin with; left out when only events were used. */
  readonly base?: { readonly offset: Offset; readonly at: string };
}

/** Last line of `restore --json`. */
export interface RestoreReport extends ReportBase {
  readonly databases: readonly RestoredDatabase[];
  /** With --table: what was taken out; the databases themselves were not handed over. */
  readonly tables?: readonly ExtractedTable[];
  /** Owners and attributes that could not be given back here; left out when all could. */
  readonly metadataRefused?: Refusals;
  /** With --force: where content of the target is kept that the restore did not replace. */
  readonly kept?: string;
  readonly durationMs: number;
  /** Where that time went. */
  readonly phasesMs: PhasesMs;
}

/** What `restore --dry-run` prints. */
export interface RestorePreview extends ReportBase {
  readonly dryRun: true;
  readonly databases: readonly ReportedDatabase[];
  /** Events from this offset to `offset` are read. */
  readonly fromOffset: number;
  /** From a repository; left out when only the log is read. */
  readonly fetches?: EventsToRead & {
    /** Of pages and contents, as they are in the result. */
    readonly contentBytes: number;
  };
  readonly bytesNeeded: number;
  readonly bytesFree: number;
}

export interface Finished {
  readonly sha256: string;
  readonly check: CheckResult;
}

export function reportedDatabase(database: PlannedDatabase): ReportedDatabase {
  const { name, sizePages: pages, pageSize, offset, timeMs, checksum } = database;
  return { name, pages, pageSize, bytes: pages * pageSize, offset, at: rfc3339(timeMs), checksum: hex(checksum) };
}

export function restoredDatabase(database: PlannedDatabase, { sha256, check }: Finished): RestoredDatabase {
  const { integrity, foreignKeys } = check;
  return { ...reportedDatabase(database), sha256, integrity, foreignKeys };
}

export function reportBase(
  { plan, trees: planned, points, point, base }: PlannedRestore,
  target: TargetDirectory,
): ReportBase {
  const { offset, timeMs } = point;
  const { nearest } = points;
  const trees = planned?.plan.summary() ?? [];
  const sum = (of: "files" | "bytes"): number => trees.reduce((total, tree) => total + tree[of], 0);
  return {
    ok: true,
    offset,
    at: rfc3339(timeMs),
    target: target.path,
    files: { count: sum("files"), bytes: sum("bytes") },
    trees,
    consistent: points.isConsistent,
    nearestConsistent: nearest ? { offset: nearest.offset, at: rfc3339(nearest.timeMs) } : null,
    gaps: plan.gaps.map(reportedGap),
    ...(base ? { base: { offset: base.offset, at: rfc3339(base.timeMs) } } : {}),
  };
}

function reportedGap({ database, sinceMs, untilMs, exactBefore, exactFrom }: PlannedGap): ReportedGap {
  return { database, since: rfc3339(sinceMs), until: rfc3339(untilMs), exactBefore, exactFrom };
}
