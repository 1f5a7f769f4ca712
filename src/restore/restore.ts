import { BEFORE_FIRST } from "../event/positions.ts";
import type { Clock } from "../runtime/clock.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { type CarriedOut, carryOut, firstNeeded, type RestoreProgress } from "./carry-out.ts";
import type { CheckMode } from "./check-database.ts";
import { bytesFree, bytesNeeded, isNoRoom, noRoom, requireRoom } from "./disk-room.ts";
import { workParent } from "./dead-work.ts";
import { consistentPoint } from "./consistent-point.ts";
import { makePlan, type PlannedRestore } from "./make-plan.ts";
import { databasePath } from "../replica/standby-paths.ts";
import { type ExtractedTable, extractTables, type TablesWanted } from "./extract-tables.ts";
import type { Archive } from "./plan-base.ts";
import type { PlannedDatabase, RestorePlan } from "./plan.ts";
import {
  reportBase,
  reportedDatabase,
  restoredDatabase,
  type Finished,
  type RestorePreview,
  type RestoreReport,
} from "./report.ts";
import { resolveTarget } from "./resolve-target.ts";
import type { RestoreTarget } from "./restore-target.ts";
import { type History, requireGoingOn } from "./history.ts";
import { inspectTarget, requireFree } from "./target-directory.ts";
import { RestoreWorkspace } from "./workspace.ts";

export type { RestoreProgress } from "./carry-out.ts";
export type { RestorePreview, RestoreReport } from "./report.ts";

export interface RestoreOptions {
  readonly history: History;
  /** Undefined: only the events tell. */
  readonly archive?: Archive | undefined;
  readonly target: RestoreTarget;
  /** Becomes the result: made when missing, empty, or replaced with `force`. */
  readonly directory: string;
  /** Undefined: all that the log holds at the target; but none when only paths are named. */
  readonly databases?: readonly string[] | undefined;
  /** Globs over `tree/path`. Undefined: all trees; but none when only databases are named. */
  readonly paths?: readonly string[] | undefined;
  /** Not whole databases but these tables of one. */
  readonly tables?: TablesWanted | undefined;
  /** Not the target itself but the nearest consistent point before it, if it is none. */
  readonly consistent?: boolean | undefined;
  readonly check: CheckMode;
  readonly force: boolean;
  /** Only the plan is made, nothing written. */
  readonly dryRun: boolean;
  readonly clock: Clock;
  /** Abort ends the restore with INTERRUPTED, nothing left behind. */
  readonly signal: AbortSignal;
  readonly onProgress?: ((progress: RestoreProgress) => void) | undefined;
}

/**
 * Builds databases and trees as they were at the target beside the target directory, verifies them, and only then puts them
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
  await options.history.seed();
  using planned = await planRestore(options, undefined);
  return {
    ...reportBase(planned, target),
    dryRun: true,
    databases: planned.plan.databases.map(reportedDatabase),
    fromOffset: firstNeeded(planned) + 1,
    bytesNeeded: bytesNeeded(planned),
    bytesFree: bytesFree(workParent(target)),
  };
}

async function perform(options: RestoreOptions): Promise<RestoreReport> {
  const startMs = options.clock.monotonic();
  const seed = await options.history.seed();
  using workspace = RestoreWorkspace.open(options);
  using planned = await planRestore(options, workspace.directory);
  const { databases: finished, refusals } = await build(workspace, planned, { ...options, seed });
  requireSound(finished, workspace, options.tables ? workspace.scratch : workspace.content);
  const tables = await takeTables(workspace, planned, options);
  await workspace.makeDurable();
  requireGoingOn(options.signal);
  const kept = workspace.handOver();
  return {
    ...reportBase(planned, workspace.target),
    databases: [...finished].map(([database, outcome]) => restoredDatabase(database, outcome)),
    ...(tables ? { tables } : {}),
    ...(refusals && refusals.count > 0 ? { metadataRefused: refusals } : {}),
    ...(kept === undefined ? {} : { kept }),
    durationMs: Math.round(options.clock.monotonic() - startMs),
  };
}

/** `directory`: where the plan may be kept meanwhile. */
async function planRestore(options: RestoreOptions, directory: string | undefined): Promise<PlannedRestore> {
  const { history, archive, signal, onProgress, target, databases, paths } = options;
  requireGoingOn(signal);
  const asked = await resolveTarget(history, target, options);
  const point = options.consistent ? await consistentPoint(history, asked, signal) : asked;
  const onPlanned = (done: number, total: number): void => onProgress?.({ phase: "plan", done, total });
  const planned = await makePlan(history, {
    target,
    point,
    base: await archive?.baseFor(point.offset, signal),
    archivedThrough: archive?.through ?? BEFORE_FIRST,
    wanted: { databases, paths, tables: options.tables !== undefined },
    directory,
    signal,
    onProgress: onPlanned,
  });
  try {
    if (options.tables) requireOneDatabase(planned.plan);
    return planned;
  } catch (error) {
    planned[Symbol.dispose]();
    throw error;
  }
}

/** @throws USAGE naming the databases when there are several */
function requireOneDatabase({ databases }: RestorePlan): void {
  if (databases.length === 1) return;
  throw new TidemarkError("USAGE", `there are ${databases.length} databases at this point: whose table is meant?`, {
    hint: `Name one with \`--database\`: ${databases.map(({ name }) => name).join(", ")}.`,
  });
}

async function takeTables(
  { scratch, content }: RestoreWorkspace,
  { plan }: PlannedRestore,
  { tables, signal }: RestoreOptions,
): Promise<ExtractedTable[] | undefined> {
  const [database] = plan.databases;
  if (!tables || !database) return undefined;
  const { name } = database;
  const file = databasePath({ root: scratch }, name);
  const { names, format } = tables;
  return extractTables({ database: { name, file }, tables: names, format, directory: content, signal });
}

async function build(
  workspace: RestoreWorkspace,
  planned: PlannedRestore,
  options: RestoreOptions & { readonly seed: bigint },
): Promise<CarriedOut> {
  const { check, signal, seed } = options;
  const onProgress = options.onProgress ?? (() => {});
  requireRoom(planned, workspace);
  try {
    const { staging } = workspace;
    const directory = options.tables ? workspace.scratch : workspace.content;
    return await carryOut(options.history, {
      planned,
      blobs: options.archive?.blobs,
      seed,
      directory,
      staging,
      check,
      signal,
      onProgress,
    });
  } catch (error) {
    if (!isNoRoom(error)) throw error;
    const { path } = workspace.target;
    throw noRoom(path, { needed: bytesNeeded(planned), free: bytesFree(workspace.directory), cause: error });
  }
}

/**
 * The pages are the primary's, proved by checksum. So damage that SQLite finds was on the primary, and what can be saved
 * from it is in these files: they are kept, but not where a program would take them for good.
 */
function requireSound(
  finished: ReadonlyMap<PlannedDatabase, Finished>,
  workspace: RestoreWorkspace,
  directory: string,
): void {
  const damaged = [...finished].find(([, { check }]) => !check.sound);
  if (!damaged) return;
  const [{ name, offset }, { check }] = damaged;
  const place = workspace.keepUnverified(directory);
  throw new TidemarkError(
    "INTEGRITY",
    `${name} at offset ${offset} is damaged: ${check.integrity}. It is so on the primary: its pages are what the log says`,
    {
      hint: `Restore an earlier point. This one is kept in ${place}; \`sqlite3 FILE .recover\` saves what can be saved.`,
    },
  );
}
