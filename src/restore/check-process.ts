import Database from "better-sqlite3";

import { errnoOf } from "../runtime/errors.ts";
import type { CheckMode, CheckRequest, CheckResult } from "./check-database.ts";

/** Lines of a damaged database's report that are kept. */
const MAX_LINES = 10;

/** The program behind DatabaseChecker: a file in, a result out, until its parent goes away or ends it. */
process.on("message", (message) => {
  const { file, mode } = message as CheckRequest;
  process.send?.(check(file, mode));
});

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

/** SQLITE_ERROR, or SQLITE_ERROR_MISSING_COLLSEQ: about the schema and what it needs, not about damaged pages. */
function isForeignCode(error: unknown): boolean {
  return errnoOf(error)?.startsWith("SQLITE_ERROR") === true;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
