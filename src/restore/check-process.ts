import Database from "better-sqlite3";

import { errnoOf } from "../runtime/errors.ts";
import type { CheckMode, CheckResult } from "./check-database.ts";

/** Lines of a damaged database's report that are kept. */
const MAX_LINES = 10;

/**
 * The program behind `checkDatabase`: a process of its own, because SQLite cannot be interrupted within a check and the
 * command must stop at once when asked to. Arguments: the file, `full` or `quick`.
 */
const [file = "", mode = "full"] = process.argv.slice(2);
const result = check(file, mode as CheckMode);
process.send?.(result);

function check(path: string, checkMode: CheckMode): CheckResult {
  let database: Database.Database | undefined;
  try {
    database = new Database(path, { fileMustExist: true });
    // Alone with the file: no wal-index file is needed, and a clean close leaves nothing behind.
    database.pragma("locking_mode=EXCLUSIVE");
    return { ...checkIntegrity(database, checkMode), foreignKeys: checkForeignKeys(database) };
  } catch (error) {
    return { sound: false, integrity: textOf(error), foreignKeys: "not checked" };
  } finally {
    database?.close();
  }
}

function checkIntegrity(database: Database.Database, checkMode: CheckMode): Pick<CheckResult, "sound" | "integrity"> {
  try {
    return run(database, checkMode === "full" ? "integrity_check" : "quick_check");
  } catch (error) {
    if (!isForeignCode(error)) throw error;
    // Needs code of the application's: a collation, a function, a virtual table. The pages are proved all the same.
    const quick = checkMode === "full" ? quickCheck(database) : "";
    return {
      sound: quick !== undefined,
      integrity: `not fully checked: ${textOf(error)}${quick ? `; quick_check ${quick}` : ""}`,
    };
  }
}

/** "" when that cannot run either; undefined when it finds damage. */
function quickCheck(database: Database.Database): string | undefined {
  try {
    return run(database, "quick_check").sound ? "ok" : undefined;
  } catch (error) {
    if (isForeignCode(error)) return "";
    throw error;
  }
}

function run(
  database: Database.Database,
  pragma: "integrity_check" | "quick_check",
): Pick<CheckResult, "sound" | "integrity"> {
  const rows = database.prepare<[], string>(`PRAGMA ${pragma}(${MAX_LINES})`).pluck().all();
  const sound = rows.length === 1 && rows[0] === "ok";
  return { sound, integrity: rows.join("; ") };
}

function checkForeignKeys(database: Database.Database): string {
  try {
    const count = database.prepare<[], number>("SELECT count(*) FROM pragma_foreign_key_check").pluck().get() ?? 0;
    return count === 0 ? "ok" : `${count} violation${count === 1 ? "" : "s"}`;
  } catch (error) {
    if (isForeignCode(error)) return `not checked: ${textOf(error)}`;
    throw error;
  }
}

/** A plain SQL error is about the schema and what it needs, not about damaged pages. */
function isForeignCode(error: unknown): boolean {
  return errnoOf(error) === "SQLITE_ERROR";
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
