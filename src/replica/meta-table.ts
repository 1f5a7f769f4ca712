import type Database from "better-sqlite3";

import { errnoOf, TidemarkError } from "../runtime/errors.ts";

/** What a database of the standby's own state says of itself. */
export class MetaTable {
  readonly #database: Database.Database;

  /** @throws RECORD_VERSION when a newer Tidemark made it */
  constructor(database: Database.Database, format: string) {
    this.#database = database;
    database.exec("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT");
    const version = this.get("format");
    if (version === undefined) this.set("format", format);
    else if (version !== format) throw newer(database.name, version, format);
  }

  get(key: string): string | undefined {
    return this.#database.prepare<[string], string>("SELECT value FROM meta WHERE key = ?").pluck().get(key);
  }

  set(key: string, value: string): void {
    this.#database.prepare("INSERT OR REPLACE INTO meta VALUES (?, ?)").run(key, value);
  }
}

/** What SQLite says of a file that is not as it was written. */
export function isDamage(error: unknown): boolean {
  return /^SQLITE_(NOTADB|CORRUPT)/.test(errnoOf(error) ?? "");
}

/** `what`: whose file it is. */
export function damagedState(what: string, file: string, cause: unknown): TidemarkError {
  return new TidemarkError("INTEGRITY", `${what}, ${file}, is damaged: ${String(cause)}`, {
    hint: "Check the disk, then build the standby anew with `tidemark replica --reseed`.",
    cause,
  });
}

function newer(file: string, version: string, known: string): TidemarkError {
  return new TidemarkError("RECORD_VERSION", `${file} has format version ${version}; this Tidemark knows ${known}`, {
    hint: "Upgrade Tidemark on this host.",
  });
}
