import { BEFORE_FIRST } from "../event/positions.ts";
import type { Clock } from "../runtime/clock.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { bytesToFetch, type CarriedOut, carryOut, firstNeeded, type RestoreProgress } from "./carry-out.ts";
import type { CheckMode } from "./check-database.ts";
import { bytesFree, bytesNeeded, isNoRoom, noRoom, requireRoom } from "./disk-room.ts";
import { workParent } from "./dead-work.ts";
import { consistentPoint } from "./consistent-point.ts";
import { makePlan, type PlannedRestore } from "./make-plan.ts";
import { requireOneDatabase, type TablesWanted, takeTables } from "./extract-tables.ts";
import { bootId } from "../runtime/boot-id.ts";
import { FetchedState } from "./fetched-state.ts";
import { PhaseTimes } from "./phase-times.ts";
import type { Archive, PlanBase } from "./plan-base.ts";
import type { PlannedDatabase } from "./plan.ts";
import {
  reportBase,
  reportedDatabase,
  restoredDatabase,
  type Finished,
  type RestorePreview,
  type RestoreReport,
} from "./report.ts";
import { type RestorePoint, resolveTarget } from "./resolve-target.ts";
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
  using planned = await planRestore(
    options,
    { ...(await beginning(options)), onBaseDamage: () => undefined },
    undefined,
  );
  const after = firstNeeded(planned);
  const through = planned.point.offset;
  const contentBytes = bytesToFetch(planned);
  return {
    ...reportBase(planned, target),
    dryRun: true,
    databases: planned.plan.databases.map(reportedDatabase),
    fromOffset: after + 1,
    ...(options.archive ? { fetches: { ...options.archive.reading({ after, through }), contentBytes } } : {}),
    bytesNeeded: bytesNeeded(planned),
    bytesFree: bytesFree(workParent(target)),
  };
}

async function perform(asked: RestoreOptions): Promise<RestoreReport> {
  const times = new PhaseTimes(asked.clock);
  const onProgress = (progress: RestoreProgress): void => {
    times.begin(progress.phase);
    asked.onProgress?.(progress);
  };
  const options = { ...asked, onProgress };
  for (;;) {
    times.begin("plan");
    const begins = await beginning(options);
    const wasBack = options.archive?.back !== undefined;
    let damage: TidemarkError | undefined;
    try {
      return await attempt(options, { ...begins, times, onBaseDamage: (error) => void (damage = error) });
    } catch (error) {
      if (wasBack && !options.archive?.back) continue;
      const { base } = begins;
      if (!damage || !base || !(await options.archive?.avoid(base, damage))) throw error;
    }
  }
}

interface Attempt extends Beginning {
  readonly times: PhaseTimes;
  readonly onBaseDamage: (error: TidemarkError) => void;
}

async function attempt(options: RestoreOptions, begins: Attempt): Promise<RestoreReport> {
  const seed = await options.history.seed();
  using workspace = RestoreWorkspace.open({ ...options, identity: identityOf(options, begins) });
  using planned = await planRestore(options, begins, workspace.directory);
  const { databases: finished, refusals } = await build(workspace, planned, { ...options, ...begins, seed });
  requireSound(finished, workspace, options.tables ? workspace.scratch : workspace.content);
  const tables = await takeTables(planned.plan, { ...options, from: workspace.scratch, to: workspace.content });
  begins.times.begin("sync");
  await workspace.makeDurable();
  requireGoingOn(options.signal);
  const kept = workspace.handOver();
  return {
    ...reportBase(planned, workspace.target),
    databases: [...finished].map(([database, outcome]) => restoredDatabase(database, outcome)),
    ...(tables ? { tables } : {}),
    ...(refusals && refusals.count > 0 ? { metadataRefused: refusals } : {}),
    ...(kept === undefined ? {} : { kept }),
    ...begins.times.end(),
  };
}

/** Where a restore goes to, and what it begins with. */
interface Beginning {
  readonly point: RestorePoint;
  readonly base: PlanBase | undefined;
}

async function beginning({ history, archive, target, consistent, clock, signal }: RestoreOptions): Promise<Beginning> {
  requireGoingOn(signal);
  const asked = await resolveTarget(history, target, { clock, signal });
  const point = consistent ? await consistentPoint(history, asked, signal) : asked;
  return { point, base: await archive?.baseFor(point.offset) };
}

/** Undefined when nothing of a killed restore could be used. */
function identityOf({ databases, paths, tables }: RestoreOptions, { point, base }: Beginning): string | undefined {
  if (!base) return undefined;
  return JSON.stringify({ boot: bootId(), base: base.id, offset: point.offset, databases, paths, tables });
}

/** `directory`: where the plan may be kept meanwhile. */
async function planRestore(
  options: RestoreOptions,
  { point, base, onBaseDamage }: Beginning & Pick<Attempt, "onBaseDamage">,
  directory: string | undefined,
): Promise<PlannedRestore> {
  const { history, archive, signal, onProgress, target, databases, paths } = options;
  const planned = await makePlan(history, {
    target,
    point,
    base,
    archivedThrough: archive?.through ?? BEFORE_FIRST,
    replaysBack: archive?.back !== undefined,
    wanted: { databases, paths, tables: options.tables !== undefined },
    directory,
    signal,
    onBaseDamage,
    onProgress: (done, total) => onProgress?.({ phase: "plan", done, total }),
  });
  try {
    if (options.tables) requireOneDatabase(planned.plan);
    return planned;
  } catch (error) {
    planned[Symbol.dispose]();
    throw error;
  }
}

async function build(
  workspace: RestoreWorkspace,
  planned: PlannedRestore,
  options: RestoreOptions & Pick<Attempt, "onBaseDamage"> & { readonly seed: bigint },
): Promise<CarriedOut> {
  const { check, signal, seed } = options;
  const onProgress = options.onProgress ?? (() => {});
  requireRoom(planned, workspace);
  using fetched = options.archive && new FetchedState(workspace.directory);
  try {
    const { staging } = workspace;
    const directory = options.tables ? workspace.scratch : workspace.content;
    const archived = options.archive &&
      fetched && {
        blobs: planned.base?.blobs ?? options.archive.blobs,
        fetched,
        back: options.archive.back,
        onBaseDamage: options.onBaseDamage,
      };
    const onNaming = (): void => workspace.forgetIdentity();
    return await carryOut(options.history, {
      planned,
      archived,
      seed,
      directory,
      staging,
      check,
      signal,
      onNaming,
      onProgress,
    });
  } catch (error) {
    // The same command goes on with what is there already.
    if (options.archive && hasCode(error, "STORE_UNREACHABLE", "LOG_UNREACHABLE")) workspace.leave();
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
