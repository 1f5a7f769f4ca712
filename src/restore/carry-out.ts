import type { Offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { readEvents } from "../log/log-reader.ts";
import { databasePath } from "../replica/standby-paths.ts";
import { DatabaseChecker, type CheckMode } from "./check-database.ts";
import { DatabaseBuilder } from "./database-builder.ts";
import type { PlannedDatabase, RestorePlan } from "./plan.ts";
import { readBack } from "./read-back.ts";
import type { Finished } from "./report.ts";
import { endedEarly, requireGoingOn } from "./scan-log.ts";

/** done and total: events in `plan` and `write`, databases in `check`, bytes in `verify`. */
export interface RestoreProgress {
  readonly phase: "plan" | "write" | "check" | "verify";
  readonly done: number;
  readonly total: number;
}

export interface CarryOutOptions {
  readonly plan: RestorePlan;
  readonly offset: Offset;
  readonly seed: bigint;
  /** The databases are written below this directory, which is empty. */
  readonly directory: string;
  readonly check: CheckMode;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: RestoreProgress) => void;
}

/**
 * Builds the databases of a plan from the log, every event proved as it goes by, then has SQLite check each, then reads
 * each back.
 *
 * @throws what readEvents throws, CHECKSUM_MISMATCH, RECORD_INVALID, INTERRUPTED
 */
export async function carryOut(
  log: ChangeLog,
  options: CarryOutOptions,
): Promise<ReadonlyMap<PlannedDatabase, Finished>> {
  const files = await build(log, options);
  const checks = await checkAll(files, options);
  const finished = new Map<PlannedDatabase, Finished>();
  const total = options.plan.databases.reduce((sum, { sizePages, pageSize }) => sum + sizePages * pageSize, 0);
  let done = 0;
  const onBytes = (bytes: number): void => {
    done += bytes;
    options.onProgress({ phase: "verify", done, total });
  };
  // Last, so that nothing touches a file after it was proved.
  for (const [database, check] of checks) {
    const sha256 = await readBack(files.get(database) ?? "", database, { ...options, onBytes });
    finished.set(database, { sha256, check });
  }
  return finished;
}

async function build(log: ChangeLog, options: CarryOutOptions): Promise<Map<PlannedDatabase, string>> {
  using stack = new DisposableStack();
  const builders = new Map<string, DatabaseBuilder>();
  for (const database of options.plan.databases) {
    const file = databasePath({ root: options.directory }, database.name);
    const builder = stack.adopt(new DatabaseBuilder(database, file, options.seed), (open) => open.close());
    builders.set(database.name, builder);
  }
  await applyEvents(log, builders, options);
  for (const builder of builders.values()) await builder.finish();
  return new Map([...builders.values()].map(({ plan, file }) => [plan, file]));
}

async function applyEvents(
  log: ChangeLog,
  builders: ReadonlyMap<string, DatabaseBuilder>,
  { plan, offset: through, signal, onProgress }: CarryOutOptions,
): Promise<void> {
  const total = through - plan.afterOffset;
  let position = plan.afterOffset;
  for await (const events of readEvents(log, { after: plan.afterOffset, through, follow: false, signal })) {
    requireGoingOn(signal);
    for (const event of events) {
      const { body } = event;
      if (body.kind === "sqlite.part" || body.kind === "sqlite.commit") builders.get(body.database)?.take(event, body);
      position = event.offset;
    }
    onProgress({ phase: "write", done: position - plan.afterOffset, total });
  }
  requireGoingOn(signal);
  if (position < through) throw endedEarly(log, position, through);
}

async function checkAll(
  files: ReadonlyMap<PlannedDatabase, string>,
  { check, signal, onProgress }: CarryOutOptions,
): Promise<Map<PlannedDatabase, Finished["check"]>> {
  const checks = new Map<PlannedDatabase, Finished["check"]>();
  using checker = new DatabaseChecker(signal);
  for (const [database, file] of files) {
    onProgress({ phase: "check", done: checks.size, total: files.size });
    checks.set(database, await checker.check({ file, mode: check }));
  }
  onProgress({ phase: "check", done: files.size, total: files.size });
  return checks;
}
