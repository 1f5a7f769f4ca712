import fs from "node:fs";

import Database from "better-sqlite3";

import { matchingFiles } from "../config/database-patterns.ts";
import { sleep, systemClock } from "../runtime/clock.ts";
import { errnoOf } from "../runtime/errors.ts";
import type { LockReport, LockRequest } from "./write-lock.ts";

/** Between two looks for databases that are not locked yet, or came since. */
const LOOK_MS = 100;
/** A busy writer leaves gaps of microseconds: whoever wants its lock must try all the time. */
const SPIN_MS = 50;

/**
 * The program behind WriteLock: takes the write lock of every database and keeps it until its parent goes away or ends it.
 * A process of its own: in the agent's, any descriptor that is closed on one of the files would drop the locks (POSIX).
 */
process.on("message", (message) => void keepLocked(message as LockRequest));
process.on("disconnect", () => process.exit());

interface Held {
  readonly file: string;
  readonly connection: Database.Database;
}

const held = new Map<string, Held>();

async function keepLocked(request: LockRequest): Promise<void> {
  for (let told = ""; ;) {
    const report = lockAll(request);
    const text = JSON.stringify(report);
    if (text !== told) process.send?.(report);
    told = text;
    await sleep(LOOK_MS);
  }
}

function lockAll({ paths, patterns }: LockRequest): LockReport {
  const wanted = new Set([...paths, ...patterns.flatMap(matchingFiles)]);
  const waiting = [...wanted].flatMap((path) => {
    const problem = lock(path);
    return problem === undefined ? [] : [{ path, problem }];
  });
  return { held: held.size, waiting };
}

/** Why it is not locked; undefined when it is, or is not there. */
function lock(path: string): string | undefined {
  const file = identityOf(path);
  const had = held.get(path);
  if (had && had.file === file) return undefined;
  had?.connection.close();
  held.delete(path);
  return file === undefined ? undefined : begin(path, file);
}

function begin(path: string, file: string): string | undefined {
  let connection: Database.Database | undefined;
  try {
    connection = new Database(path, { fileMustExist: true, timeout: 0 });
    takeLock(connection);
    held.set(path, { file, connection });
    return undefined;
  } catch (error) {
    connection?.close();
    return error instanceof Error ? error.message : String(error);
  }
}

function takeLock(connection: Database.Database): void {
  for (const untilMs = systemClock.monotonic() + SPIN_MS; ;) {
    try {
      return void connection.exec("BEGIN IMMEDIATE");
    } catch (error) {
      const busy = errnoOf(error)?.startsWith("SQLITE_BUSY") === true;
      if (!busy || systemClock.monotonic() > untilMs) throw error;
    }
  }
}

function identityOf(path: string): string | undefined {
  const stat = fs.statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat?.isFile() ? `${stat.dev}:${stat.ino}` : undefined;
}
