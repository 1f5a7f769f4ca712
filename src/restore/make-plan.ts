import { kindOfCode } from "../event/body-fields.ts";
import type { LogEvent } from "../event/kinds.ts";
import { type Offset, offset } from "../event/positions.ts";
import { nearestName } from "../config/nearest-name.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { isOfOneCopy } from "./blob-copies.ts";
import { ConsistentPoints } from "./consistent-point.ts";
import type { PlanBase } from "./plan-base.ts";
import { type RestorePlan, RestorePlanner } from "./plan.ts";
import { beforeFirst, type EventSummary, type History, requireGoingOn } from "./history.ts";
import type { RestorePoint } from "./resolve-target.ts";
import type { RestoreTarget } from "./restore-target.ts";
import { rfc3339 } from "./rfc3339.ts";
import { type PlannedTrees, TreePlanner, type TreePlannerOptions } from "./tree-planner.ts";

/**
 * How much of other databases' commits is read past the target to learn whether a silent database was in a gap then.
 * Parts of large transactions do not count: each of them is closed some time.
 */
const LOOK_AHEAD_BYTES = 1024 * 1024 * 1024;
/** From a repository all of it must be fetched. */
const LOOK_AHEAD_FETCHED_BYTES = 32 * 1024 * 1024;
/** Damage behind the target is no reason not to restore what is before it. */
const DAMAGE = [
  ...(["RECORD_INVALID", "RECORD_VERSION", "LOG_GAP", "LOG_REGRESSED"] as const),
  ...(["OBJECT_CORRUPT", "OBJECT_MISSING", "OFFSET_NOT_FOUND"] as const),
];

/** What a restore was asked for: everything, unless databases or paths are named. Named paths alone bring no database back. */
export interface Wanted {
  readonly databases: readonly string[] | undefined;
  /** Globs over `tree/path`. */
  readonly paths: readonly string[] | undefined;
  /** Tables are taken out of the databases afterwards: no tree is brought back. */
  readonly tables?: boolean | undefined;
}

/** All that carrying out a restore needs to know. */
export interface PlannedRestore extends Disposable {
  readonly point: RestorePoint;
  readonly plan: RestorePlan;
  /** Undefined: no tree is asked for, or the log holds none. */
  readonly trees: PlannedTrees | undefined;
  readonly points: ConsistentPoints;
  readonly base: PlanBase | undefined;
}

export interface MakePlanOptions {
  readonly target: RestoreTarget;
  readonly point: RestorePoint;
  /** What the plan begins with; undefined: only the events tell. */
  readonly base: PlanBase | undefined;
  /** See TreePlannerOptions. */
  readonly archivedThrough: Offset;
  readonly wanted: Wanted;
  /** Which transactions are in several parts need not be known of what the heads of segments tell: see replayBack. */
  readonly replaysBack: boolean;
  /** Where the plan of trees is kept meanwhile; undefined: in files of SQLite's own. */
  readonly directory: string | undefined;
  readonly signal: AbortSignal;
  /** The base cannot be had. */
  readonly onBaseDamage: (error: TidemarkError) => void;
  readonly onProgress: (done: number, total: number) => void;
}

/** Reads the events once, without page images of unfinished transactions. @throws as the functions below, INTERRUPTED */
export async function makePlan(history: History, options: MakePlanOptions): Promise<PlannedRestore> {
  using stack = new DisposableStack();
  const { point, target, wanted, base } = options;
  const firstOffset = offset(beginsAfter(options) + 1);
  const reading: Reading = {
    databases: new RestorePlanner({ firstOffset, targetOffset: point.offset, momentMs: point.momentMs, base }),
    trees: wantsTrees(wanted) ? stack.use(new TreePlanner(treeOptions(options))) : undefined,
    points: new ConsistentPoints(base !== undefined && base.trees.length > 0),
  };
  await beginTrees(history, reading, options);
  await readToTarget(history, reading, options);
  await readAhead(history, reading, options);
  const { databases, points } = reading;
  if (databases.names.length === 0 && reading.trees?.isEmpty !== false) throw nothingYet(databases, target, point);
  const plan = databases.plan(wantsDatabases(wanted) ? wantedNames(databases.names, options) : []);
  const trees = reading.trees?.plan();
  if (trees) requireApart(plan, trees);
  const owned = stack.move();
  return { point, plan, trees, points, base, [Symbol.dispose]: () => owned.dispose() };
}

function wantsDatabases({ databases, paths }: Wanted): boolean {
  return databases !== undefined || paths === undefined;
}

function wantsTrees({ databases, paths, tables }: Wanted): boolean {
  return !tables && (paths !== undefined || databases === undefined);
}

function treeOptions(options: MakePlanOptions): TreePlannerOptions {
  const { point, wanted, directory, base, archivedThrough } = options;
  return {
    firstOffset: offset(beginsAfter(options) + 1),
    targetOffset: point.offset,
    fromBase: base !== undefined,
    archivedThrough,
    paths: wanted.paths,
    directory,
  };
}

/** Events after this one tell the rest. */
function beginsAfter({ base, point }: MakePlanOptions): Offset {
  return base?.offset ?? beforeFirst(point.bounds);
}

async function beginTrees(
  history: History,
  { trees, points }: Reading,
  { base, signal, onBaseDamage }: MakePlanOptions,
): Promise<void> {
  // Without trees nothing was a consistent point.
  if (!trees || !base || base.trees.length === 0) return;
  // The base is at some offset, not at a consistent one.
  const after = await history.consistentAfter(base.offset);
  for await (const { head } of history.scan({ after, through: base.offset, signal })) points.take(head);
  try {
    for await (const entry of base.entries(signal)) {
      requireGoingOn(signal);
      trees.begin(entry);
    }
  } catch (error) {
    if (isOfOneCopy(error)) onBaseDamage(error);
    throw error;
  }
}

interface Reading {
  readonly databases: RestorePlanner;
  readonly trees: TreePlanner | undefined;
  readonly points: ConsistentPoints;
}

async function readToTarget(history: History, reading: Reading, options: MakePlanOptions): Promise<void> {
  const { point, signal, onProgress, replaysBack } = options;
  const after = beginsAfter(options);
  const total = point.offset - after;
  const isEnough = (summary: EventSummary): boolean => saysEnough(summary, { replaysBack });
  for await (const step of history.survey({ after, through: point.offset, signal, isEnough })) {
    const done = ("summary" in step ? step.summary.last : step.head.offset) - after;
    if ("summary" in step) takeSummary(reading, step.summary);
    else {
      reading.points.take(step.head);
      if (kindOfCode(step.head.kind) !== "sqlite.part") takeEvent(reading, step.event());
    }
    if ("summary" in step || done % 1024 === 0) onProgress(done, total);
  }
}

/** Nothing in it but commits, and no doubt whether databases and files fit at its end. */
function saysEnough(
  { last, databases, trees, lastConsistent }: EventSummary,
  { replaysBack }: Pick<MakePlanOptions, "replaysBack">,
): boolean {
  const isPlain = databases.every(({ copy, parts }) => copy === undefined && (replaysBack || !parts));
  return isPlain && trees.length === 0 && (lastConsistent === undefined || lastConsistent === last);
}

function takeSummary({ databases, points }: Reading, summary: EventSummary): void {
  for (const database of summary.databases) databases.takeSummary(database);
  points.takeSummary(summary);
}

function takeEvent({ databases, trees }: Reading, event: LogEvent): void {
  databases.take(event);
  trees?.take(event);
}

/** Only for knowing about gaps. */
async function readAhead(
  history: History,
  reading: Reading,
  { point, archivedThrough, signal }: MakePlanOptions,
): Promise<void> {
  const { databases, trees, points } = reading;
  const limit = archivedThrough > point.offset ? LOOK_AHEAD_FETCHED_BYTES : LOOK_AHEAD_BYTES;
  let bytes = 0;
  if (databases.names.length === 0 && trees?.isEmpty === false) return;
  try {
    for await (const { head, event } of history.scan({ after: point.offset, through: point.bounds.last, signal })) {
      if (databases.decided || bytes > limit) return;
      points.takeAhead(head);
      const kind = kindOfCode(head.kind);
      if (kind === "sqlite.part") continue;
      bytes += head.storedBytes;
      if (kind === "sqlite.commit") databases.take(event());
    }
  } catch (error) {
    if (!hasCode(error, ...DAMAGE)) throw error;
  }
}

/** @throws USAGE naming what is known */
function wantedNames(known: readonly string[], { wanted: { databases }, point }: MakePlanOptions): readonly string[] {
  const unknown = databases?.find((name) => !known.includes(name));
  if (unknown === undefined) return databases ? [...new Set(databases)] : known;
  const near = nearestName(unknown, known);
  throw new TidemarkError(
    "USAGE",
    `the log holds no database ${JSON.stringify(unknown)} at offset ${point.offset}${near === undefined ? "" : `; did you mean ${near}?`}`,
    { hint: `It holds ${known.join(", ")}.` },
  );
}

/** A name may have been a database's once and become a tree's. @throws USAGE */
function requireApart({ databases }: RestorePlan, { plan }: PlannedTrees): void {
  for (const { name: tree } of plan.summary()) {
    const database = databases.find(
      ({ name }) => `${name}/`.startsWith(`${tree}/`) || `${tree}/`.startsWith(`${name}/`),
    );
    if (!database) continue;
    throw new TidemarkError(
      "USAGE",
      `the database ${database.name} and the tree ${tree} cannot both lie in one place`,
      {
        hint: "Restore one of them: name databases with `--database`, or what is wanted of trees with `--path`.",
      },
    );
  }
}

function nothingYet(planner: RestorePlanner, target: RestoreTarget, point: RestorePoint): TidemarkError {
  const { firstAhead: ahead } = planner;
  const named = target.kind === "time" ? target.text : `offset ${point.offset}`;
  const later =
    ahead && `the first, ${ahead.database}, is complete from ${rfc3339(ahead.timeMs)}, offset ${ahead.offset}, on`;
  const code = target.kind === "time" ? "TIME_OUT_OF_RANGE" : "OFFSET_NOT_FOUND";
  return new TidemarkError(
    code,
    `at ${named} the log holds neither a complete database nor files yet${later ? `; ${later}` : ""}`,
    {
      hint: ahead
        ? `Name a point from there on, for instance \`--to ${ahead.offset}\`.`
        : "Wait until the first copy is complete: `tidemark status` shows it.",
    },
  );
}
