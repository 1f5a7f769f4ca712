import type { ChangeLog } from "../log/change-log.ts";
import { readGenesis } from "../log/log-reader.ts";
import type { Clock } from "../runtime/clock.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { carryOut, type RestoreProgress } from "./carry-out.ts";
import type { CheckMode } from "./check-database.ts";
import { bytesFree, bytesNeeded, isNoRoom, noRoom, requireRoom } from "./disk-room.ts";
import { workParent } from "./dead-work.ts";
import { makePlan } from "./make-plan.ts";
import type { PlannedDatabase, RestorePlan } from "./plan.ts";
import {
  reportBase,
  reportedDatabase,
  restoredDatabase,
  type Finished,
  type RestorePreview,
  type RestoreReport,
} from "./report.ts";
import { resolveTarget, type RestorePoint } from "./resolve-target.ts";
import type { RestoreTarget } from "./restore-target.ts";
import { requireGoingOn } from "./scan-log.ts";
import { inspectTarget, requireFree } from "./target-directory.ts";
import { RestoreWorkspace } from "./workspace.ts";

export type { RestoreProgress } from "./carry-out.ts";
export type { RestorePreview, RestoreReport } from "./report.ts";

export interface RestoreOptions {
  readonly log: ChangeLog;
  readonly target: RestoreTarget;
  /** Becomes the result: made when missing, empty, or replaced with `force`. */
  readonly directory: string;
  /** Undefined: all that the log holds at the target. */
  readonly databases?: readonly string[] | undefined;
  readonly check: CheckMode;
  readonly force: boolean;
  /** Only the plan is made, nothing written. */
  readonly dryRun: boolean;
  readonly clock: Clock;
  /** Abort ends the restore with INTERRUPTED, nothing left behind. */
  readonly signal: AbortSignal;
  readonly onProgress?: ((progress: RestoreProgress) => void) | undefined;
}

interface PlannedRestore {
  readonly plan: RestorePlan;
  readonly point: RestorePoint;
  readonly seed: bigint;
}

/**
 * Builds the databases as they were at the target beside the target directory, verifies them, and only then puts them
 * there: until that moment the directory is as it was.
 *
 * @throws OFFSET_NOT_FOUND, TIME_OUT_OF_RANGE, MARK_NOT_FOUND, LOG_EMPTY, TARGET_NOT_EMPTY, DISK_FULL, CHECKSUM_MISMATCH,
 *   INTEGRITY (SQLite finds damage; the result is kept under another name), INTERRUPTED, what reading the log throws
 */
export async function restore(options: RestoreOptions): Promise<RestoreReport | RestorePreview> {
  try {
    return await (options.dryRun ? preview(options) : perform(options));
  } catch (error) {
    // An interrupted read may end with whatever the log's connection had to say.
    if (!hasCode(error, "INTEGRITY")) requireGoingOn(options.signal);
    throw error;
  }
}

/** The same plan, nothing written; throws what can be known without writing. */
async function preview(options: RestoreOptions): Promise<RestorePreview> {
  const target = inspectTarget(options.directory);
  requireFree(target, options.force);
  const { plan, point } = await planRestore(options);
  return {
    ...reportBase(plan, point, target),
    dryRun: true,
    databases: plan.databases.map(reportedDatabase),
    fromOffset: plan.afterOffset + 1,
    bytesNeeded: bytesNeeded(plan),
    bytesFree: bytesFree(workParent(target)),
  };
}

async function perform(options: RestoreOptions): Promise<RestoreReport> {
  const startMs = options.clock.monotonic();
  // Before the log is read, which may take long.
  requireFree(inspectTarget(options.directory), options.force);
  const planned = await planRestore(options);
  using workspace = RestoreWorkspace.open(options);
  const finished = await build(workspace, planned, options);
  await workspace.makeDurable();
  requireSound(finished, workspace);
  requireGoingOn(options.signal);
  const kept = workspace.handOver();
  return {
    ...reportBase(planned.plan, planned.point, workspace.target),
    databases: [...finished].map(([database, outcome]) => restoredDatabase(database, outcome)),
    ...(kept === undefined ? {} : { kept }),
    durationMs: Math.round(options.clock.monotonic() - startMs),
  };
}

async function planRestore(options: RestoreOptions): Promise<PlannedRestore> {
  const { log, signal, onProgress } = options;
  requireGoingOn(signal);
  const seed = await readSeed(log);
  const point = await resolveTarget(log, options.target, options);
  const plan = await makePlan(log, {
    target: options.target,
    point,
    databases: options.databases,
    signal,
    onProgress: (done, total) => onProgress?.({ phase: "plan", done, total }),
  });
  return { plan, point, seed };
}

/** @throws LOG_EMPTY */
async function readSeed(log: ChangeLog): Promise<bigint> {
  if ((await log.bounds()).last > 0) return (await readGenesis(log)).checksumSeed;
  throw new TidemarkError("LOG_EMPTY", `${log.location}: nothing was captured yet, so there is nothing to restore`, {
    hint: "Start `tidemark capture` (or `run`) for this set first.",
  });
}

async function build(
  workspace: RestoreWorkspace,
  { plan, point, seed }: PlannedRestore,
  options: RestoreOptions,
): Promise<ReadonlyMap<PlannedDatabase, Finished>> {
  const { check, signal } = options;
  const onProgress = options.onProgress ?? (() => {});
  requireRoom(plan, workspace);
  try {
    const directory = workspace.content;
    return await carryOut(options.log, { plan, offset: point.offset, seed, directory, check, signal, onProgress });
  } catch (error) {
    if (!isNoRoom(error)) throw error;
    const { path } = workspace.target;
    throw noRoom(path, { needed: bytesNeeded(plan), free: bytesFree(workspace.directory), cause: error });
  }
}

/**
 * The pages are the primary's, proved by checksum. So damage that SQLite finds was on the primary, and what can be saved
 * from it is in these files: they are kept, but not where a program would take them for good.
 */
function requireSound(finished: ReadonlyMap<PlannedDatabase, Finished>, workspace: RestoreWorkspace): void {
  const damaged = [...finished].find(([, { check }]) => !check.sound);
  if (!damaged) return;
  const [{ name, offset }, { check }] = damaged;
  const place = workspace.keepUnverified();
  throw new TidemarkError(
    "INTEGRITY",
    `${name} at offset ${offset} is damaged: ${check.integrity}. It is so on the primary: its pages are what the log says`,
    {
      hint: `Restore an earlier point. This one is kept in ${place}; \`sqlite3 FILE .recover\` saves what can be saved.`,
    },
  );
}
