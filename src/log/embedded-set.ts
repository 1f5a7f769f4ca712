import Database from "better-sqlite3";

import { logFile } from "./embedded-store.ts";

/**
 * The set whose log lies in a directory; undefined when there is none that can be read. For commands that were told only
 * where the log is: opening it for work checks everything again and says what is wrong.
 */
export function embeddedLogSet(directory: string): string | undefined {
  let database: Database.Database | undefined;
  try {
    database = new Database(logFile(directory), { readonly: true, fileMustExist: true });
    const set = database.prepare("SELECT value FROM meta WHERE key = 'set'").pluck().get();
    return typeof set === "string" ? set : undefined;
  } catch {
    return undefined;
  } finally {
    database?.close();
  }
}
