import type { Offset } from "../event/positions.ts";
import { databasePath } from "../replica/standby-paths.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import { isOfOneCopy } from "./blob-copies.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import type { CheckMode } from "./check-database.ts";
import { DatabaseBuilder } from "./database-builder.ts";
import type { FetchedState } from "./fetched-state.ts";
import { fillDatabases } from "./fill-databases.ts";
import { fillTrees } from "./fill-trees.ts";
import { finishTrees, type Refusals } from "./finish-trees.ts";
import type { PlannedRestore } from "./make-plan.ts";
import type { BlobReader, EventsBack } from "./plan-base.ts";
import type { PlannedDatabase } from "./plan.ts";
import { proveDatabases } from "./prove-databases.ts";
import { replayBack } from "./replay-back.ts";
import type { Finished } from "./report.ts";
import { type History, requireGoingOn } from "./history.ts";
import { TreeBuilder } from "./tree-builder.ts";

/** done and total: bytes where it says so, events in `plan` and `write`, databases in `check`. */
export interface RestoreProgress {
  readonly phase: "plan" | "fetch" | "write" | "check" | "verify";
  readonly done: number;
  readonly total: number;
  readonly unit?: "bytes";
}

export interface CarryOutOptions {
  readonly planned: PlannedRestore;
  /** Undefined: the events carry everything. */
  readonly archived: Archived | undefined;
  readonly seed: bigint;
  /** Databases and trees are written below this directory, which is empty. */
  readonly directory: string;
  /** Contents of files lie here until they get their names: in the same file system. */
  readonly staging: string;
  /** From here on a restore that is killed cannot be gone on with. */
  readonly onNaming: () => void;
  readonly check: CheckMode;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: RestoreProgress) => void;
}

/** Where what the events do not carry comes from. */
export interface Archived {
  readonly blobs: BlobReader;
  readonly fetched: FetchedState;
  /** See Archive. */
  readonly back: EventsBack | undefined;
  /** Pages of the base cannot be had. */
  readonly onBaseDamage: (error: TidemarkError) => void;
}

export interface CarriedOut {
  readonly databases: ReadonlyMap<PlannedDatabase, Finished>;
  /** Undefined: there are no trees. */
  readonly refusals: Refusals | undefined;
}

/**
 * Builds the databases and trees of a plan from the events, every event proved as it goes by, then reads everything back
 * and has SQLite check each database.
 *
 * @throws what History.events throws, CHECKSUM_MISMATCH, RECORD_INVALID, INTERRUPTED
 */
export async function carryOut(history: History, options: CarryOutOptions): Promise<CarriedOut> {
  const { plan, trees } = options.planned;
  const files = await build(history, options);
  const databaseBytes = plan.databases.reduce((sum, { sizePages, pageSize }) => sum + sizePages * pageSize, 0);
  const total = databaseBytes + (trees?.plan.contentBytes() ?? 0);
  let done = 0;
  const onBytes = (bytes: number): void => {
    done += bytes;
    options.onProgress({ phase: "verify", done, total, unit: "bytes" });
  };
  const onChecked = (checked: number): void => options.onProgress({ phase: "check", done: checked, total: files.size });
  const finished = await proveDatabases(files, { ...options, onBytes, onChecked });
  if (trees) {
    options.onNaming();
    const { staging: staged, directory, signal } = options;
    return { databases: finished, refusals: await finishTrees({ trees, staged, directory, signal, onBytes }) };
  }
  return { databases: finished, refusals: undefined };
}

async function build(history: History, options: CarryOutOptions): Promise<Map<PlannedDatabase, string>> {
  await using stack = new AsyncDisposableStack();
  const builders = new Map<string, DatabaseBuilder>();
  const { plan, trees } = options.planned;
  const sources = { history, blobs: options.archived?.blobs, signal: options.signal };
  const contents = trees && stack.use(new TreeBuilder(trees.plan, options.staging, sources));
  for (const database of plan.databases) {
    const file = databasePath({ root: options.directory }, database.name);
    const builder = stack.adopt(new DatabaseBuilder(database, file, options.seed), (open) => open.close());
    builders.set(database.name, builder);
  }
  await fetch({ builders, contents }, options);
  await replay(history, { builders, contents }, options);
  for (const builder of builders.values()) await builder.finish();
  return new Map([...builders.values()].map((builder) => [builder.plan, builder.file]));
}

interface Builders {
  readonly builders: ReadonlyMap<string, DatabaseBuilder>;
  readonly contents: TreeBuilder | undefined;
}

/** What a base holds, and contents of files that a repository has. */
async function fetch({ builders, contents }: Builders, options: CarryOutOptions): Promise<void> {
  const { planned, archived, signal } = options;
  if (!archived) return;
  const total = bytesToFetch(planned);
  let done = 0;
  const onBytes = (bytes: number): void => {
    done += bytes;
    options.onProgress({ phase: "fetch", done, total, unit: "bytes" });
  };
  onBytes(0);
  try {
    await fillDatabases(builders.values(), { ...archived, offset: planned.plan.afterOffset, signal, onBytes });
  } catch (error) {
    if (isOfOneCopy(error)) archived.onBaseDamage(error);
    throw error;
  }
  if (contents && planned.trees) await fillTrees(contents, planned.trees.plan, { ...archived, signal, onBytes });
  crashPoint("restore: all fetched");
}

/** As they are in the result. */
export function bytesToFetch({ plan, trees }: PlannedRestore): number {
  const ofDatabases = plan.databases.map(({ base }) => (base ? base.sizePages * base.pageSize : 0));
  return ofDatabases.reduce((sum, bytes) => sum + bytes, trees?.plan.blobBytes() ?? 0);
}

/** Records after this one are read. */
export function firstNeeded({ plan, trees }: PlannedRestore): Offset {
  const ofTrees = trees?.plan.afterOffset() ?? plan.afterOffset;
  return ofTrees < plan.afterOffset ? ofTrees : plan.afterOffset;
}

async function replay(history: History, { builders, contents }: Builders, options: CarryOutOptions): Promise<void> {
  const { planned, archived, signal, onProgress } = options;
  const { afterOffset: after } = planned.plan;
  const through = planned.point.offset;
  const onEvents = (done: number): void => onProgress({ phase: "write", done, total: through - after });
  onEvents(0);
  const rest =
    archived?.back && builders.size > 0
      ? await replayBack(builders, { back: archived.back, after, through, signal, onEvents })
      : { after, previousHash: undefined };
  const ofTrees = planned.trees?.plan.afterOffset() ?? through;
  const isEarlier = ofTrees < rest.after;
  await applyEvents(history, { builders, contents }, { ...options, ...(isEarlier ? { after: ofTrees } : rest) });
}

/** Events behind `after`, in their order. */
async function applyEvents(
  history: History,
  { builders, contents }: Builders,
  {
    planned,
    signal,
    onProgress,
    after,
    previousHash,
  }: CarryOutOptions & { readonly after: Offset; readonly previousHash?: Uint8Array | undefined },
): Promise<void> {
  const through = planned.point.offset;
  const total = through - after;
  if (total === 0) return;
  onProgress({ phase: "write", done: 0, total });
  const range = { after, through, signal, ...(previousHash ? { previousHash } : {}) };
  for await (const events of history.events(range)) {
    requireGoingOn(signal);
    for (const event of events) {
      const { body } = event;
      if (body.kind === "sqlite.part" || body.kind === "sqlite.commit") builders.get(body.database)?.take(event, body);
      else await contents?.take(event);
    }
    onProgress({ phase: "write", done: (events.at(-1)?.offset ?? after) - after, total });
  }
}
