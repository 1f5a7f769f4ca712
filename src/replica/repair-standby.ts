import fs from "node:fs";
import path from "node:path";

import type { Logger } from "pino";

import type { Offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { LogIdentity } from "../log/log-reader.ts";
import type { Clock } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { PageIndex } from "../sqlite/page-index.ts";
import { loadProvedIndex, rebuildIndex } from "./rebuild-index.ts";
import { isDamage } from "./meta-table.ts";
import { rebuildFile } from "./rebuild-file.ts";
import type { LookBack } from "./look-back.ts";
import type { ReplicaProgress } from "./replica-progress.ts";
import { isInWalMode, NOT_IN_WAL_MODE, openStandby } from "./sqlite/wal-writer.ts";
import { databasePath, type StandbyPaths } from "./standby-paths.ts";
import type { StandbyState } from "./standby-state.ts";

export interface RepairContext {
  readonly paths: StandbyPaths;
  readonly state: StandbyState;
  readonly identity: LogIdentity;
  readonly log: ChangeLog;
  readonly lookBack: LookBack;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly progress: ReplicaProgress;
  readonly signal: AbortSignal;
}

/** One database as the state knows it. */
export interface KnownDatabase {
  readonly name: string;
  readonly path: string;
}

/** An index that the log proved, and the offset it is as new as. */
export interface ProvedIndex {
  readonly index: PageIndex;
  readonly offset: Offset;
}

/**
 * Puts right what keeps a standby from being opened, while nothing of it is open in this process: a page index that was
 * damaged is made anew from the file, a file that SQLite refuses or that is gone from its own pages and the log.
 * Both are proved by the log's checksum. Returns whether anything was repaired.
 *
 * @throws INTEGRITY, STANDBY_DIVERGED when it cannot be; what the log throws
 */
export async function repairStandby(context: RepairContext): Promise<boolean> {
  const { state, paths, logger, progress } = context;
  let repaired = false;
  for (const name of state.indexes.names()) {
    const database = { name, path: databasePath(paths, name) };
    const said = (what: string): void => logger.warn({ database: name }, `${database.path}: ${what}`);
    let known = await loadProvedIndex(context, name);
    const problem = refusal(database.path);
    if (known && problem === undefined) continue;
    progress.diverged = true;
    if (!known) {
      said("the page index is damaged; it is made anew from the file and compared with the log");
      known = await rebuildIndex(context, database);
    }
    if (problem !== undefined) {
      said(`${problem}; it is built anew from what is right in it and from the log`);
      await rebuildFile(context, database, known);
      crashPoint("standby: file rebuilt");
      for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(path.join(paths.aside, name) + suffix, { force: true });
    }
    said("repaired");
    progress.repaired(name);
    repaired = true;
  }
  return repaired;
}

/** Why the file cannot be written as a standby's, when that is for what is in it. */
function refusal(file: string): string | undefined {
  if (!fs.existsSync(file)) return "the file is gone";
  try {
    const connection = openStandby(file);
    try {
      connection.exec("BEGIN IMMEDIATE; ROLLBACK");
      return isInWalMode(connection) ? undefined : NOT_IN_WAL_MODE;
    } finally {
      connection.close();
    }
  } catch (error) {
    // Busy, no rights: not for what is in it.
    return isDamage(error) ? `SQLite refuses it: ${String(error)}` : undefined;
  }
}

/** SQLite's complaint about a damaged file as one that no retry can heal. Others are returned as they are. */
export function damageOf(error: unknown, where: string): unknown {
  const cause = error instanceof TidemarkError ? error.cause : error;
  if (!isDamage(error) && !isDamage(cause)) return error;
  return new TidemarkError("STANDBY_DIVERGED", `${where} is damaged: ${String(isDamage(error) ? error : cause)}`, {
    hint: "Check the disk, then build the standby anew with `tidemark replica --reseed`.",
    cause: error,
  });
}
