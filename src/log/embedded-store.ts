import Database from "better-sqlite3";
import { statSync } from "node:fs";
import { join } from "node:path";
import { crashPoint } from "../runtime/crash-point.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import type { LogBeginning } from "./change-log.ts";
import type { WorkerOptions } from "./embedded-protocol.ts";
import { existsError, foreignError, unreachableError } from "./log-errors.ts";

/** `PRAGMA application_id` of an embedded log: "TMLG". */
const APPLICATION_ID = 0x544d4c47;
const FORMAT = "1";
/** Removed in one transaction by trim, so that an append never waits long behind it. */
const TRIM_SLICE_ROWS = 500;
const TRIM_SLICE_BYTES = 4 * 1024 * 1024;
/** Records are written once and read in order: of better-sqlite3's 16 MB for each connection nothing would be read twice. */
const READ_CACHE_KIB = 1024;
/**
 * Of a new log: four times SQLite's own. Every page of a large record is a call for its frame in the WAL, two to write it back, and
 * a small commit writes one or two pages whatever their size.
 */
const PAGE_BYTES = 16 * 1024;
/** The WAL is written back when it is so long: an append that meets that waits for it. */
const CHECKPOINT_BYTES = 4 * 1024 * 1024;
/** Holds what is committed together. */
const WRITE_CACHE_KIB = 4096;

const SCHEMA = `
  CREATE TABLE record (offset INTEGER PRIMARY KEY, time INTEGER NOT NULL, epoch INTEGER NOT NULL, data BLOB NOT NULL);
  CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
`;

export const logFile = (directory: string): string => join(directory, "log.db");
export const writerLockFile = (directory: string): string => join(directory, "writer.lock.db");
/** Written after every commit: SQLite's own files are written before a commit is visible, too early to wake a reader. */
export const bellFile = (directory: string): string => join(directory, "bell");
export const embeddedLocation = (directory: string): string => `embedded:${directory}`;

/** Identity of the file in the directory, to notice that somebody put another one there. */
export function fileIdentity(path: string): string | undefined {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found && `${found.dev}:${found.ino}`;
}

/** Opens or creates the log for its one writer. The caller holds the writer lock. @throws LOG_EXISTS */
export function openStoreForWrite({ directory, set, begin }: WorkerOptions): Database.Database {
  // Short: while it waits the thread hears nothing. Who is busy longer is waited out by the caller.
  const database = new Database(logFile(directory), { timeout: 1_000 });
  try {
    if (isBlank(database, directory)) create(database, set);
    else assertOurs(database, { directory, set });
    if (begin) beginAgain(database, begin, directory);
    database.pragma("journal_mode = WAL");
    database.pragma("synchronous = FULL");
    database.pragma(`cache_size = -${WRITE_CACHE_KIB}`);
    const pageBytes = Number(database.pragma("page_size", { simple: true }));
    database.pragma(`wal_autocheckpoint = ${CHECKPOINT_BYTES / pageBytes}`);
    database.pragma("journal_size_limit = 67108864");
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** @throws LOG_UNREACHABLE when nothing is there (yet); never creates anything. */
export function openStoreForRead(directory: string, set: string): Database.Database {
  const location = embeddedLocation(directory);
  if (fileIdentity(logFile(directory)) === undefined) {
    throw new TidemarkError("LOG_UNREACHABLE", `${location}: there is no log yet`, {
      hint: "Start `tidemark capture` (or `run`) with this log first, or check the directory's name.",
    });
  }
  let database: Database.Database | undefined;
  try {
    database = new Database(logFile(directory), {
      readonly: true,
      fileMustExist: true,
      timeout: 10_000,
    });
    // First of all: what is no database is told from what is a damaged one.
    if (isBlank(database, directory)) throw unreachableError(location, "the log is just being created");
    assertOurs(database, { directory, set });
    database.pragma(`cache_size = -${READ_CACHE_KIB}`);
    return database;
  } catch (error) {
    database?.close();
    throw toStoreError(error, location);
  }
}

function isBlank(database: Database.Database, directory: string): boolean {
  try {
    return (
      database.prepare("SELECT count(*) AS n FROM sqlite_schema").pluck().get() === 0 && applicationId(database) === 0
    );
  } catch (error) {
    if (errnoOf(error) === "SQLITE_NOTADB")
      throw foreignError(embeddedLocation(directory), "log.db is not an SQLite file");
    throw error;
  }
}

function applicationId(database: Database.Database): unknown {
  return database.pragma("application_id", { simple: true });
}

function create(database: Database.Database, set: string): void {
  database.pragma(`page_size = ${PAGE_BYTES}`);
  database.transaction(() => {
    database.exec(SCHEMA);
    const insert = database.prepare("INSERT INTO meta VALUES (?, ?)");
    insert.run("format", FORMAT);
    insert.run("set", set);
    database.pragma(`application_id = ${APPLICATION_ID}`);
  })();
}

/** Says in a log that holds nothing yet where it goes on; one that has something must say so already. */
function beginAgain(database: Database.Database, { after, writer, genesis }: LogBeginning, directory: string): void {
  const insert = database.prepare("INSERT INTO meta VALUES (?, ?)");
  database.transaction(() => {
    const fresh = ends(database).last === 0 && metaValue(database, "writer") === undefined;
    if (fresh) for (const [key, value] of Object.entries({ genesis, after, writer })) insert.run(key, value);
    const same = metaValue(database, "after") === after && metaValue(database, "writer") === writer;
    if (!same) throw existsError(embeddedLocation(directory));
  })();
}

function assertOurs(database: Database.Database, options: { directory: string; set: string }): void {
  const location = embeddedLocation(options.directory);
  if (applicationId(database) !== APPLICATION_ID)
    throw foreignError(location, "log.db is a database of another program");
  const format = metaValue(database, "format");
  if (format !== FORMAT) {
    throw new TidemarkError(
      "RECORD_VERSION",
      `${location}: log.db has format ${String(format)}, this Tidemark reads ${FORMAT}`,
      {
        hint: "Upgrade Tidemark on this host.",
      },
    );
  }
  const set = metaValue(database, "set");
  if (set !== options.set)
    throw foreignError(location, `it is the log of the set "${String(set)}", not of "${options.set}"`);
}

function metaValue(database: Database.Database, key: string): unknown {
  return database.prepare("SELECT value FROM meta WHERE key = ?").pluck().get(key);
}

export function storeBounds(database: Database.Database): {
  first: number;
  last: number;
  bytes: number;
} {
  const pages =
    Number(database.pragma("page_count", { simple: true })) -
    Number(database.pragma("freelist_count", { simple: true }));
  return {
    ...ends(database),
    bytes: pages * Number(database.pragma("page_size", { simple: true })),
  };
}

function ends(database: Database.Database): { first: number; last: number } {
  const row = database
    .prepare<[], { first: number | null; last: number | null }>(
      "SELECT (SELECT min(offset) FROM record) AS first, (SELECT max(offset) FROM record) AS last",
    )
    .get();
  // Nothing yet: a log that goes on with a lost one says after which offset.
  const last = row?.last ?? Number(metaValue(database, "after") ?? 0);
  return { first: row?.first ?? last + 1, last };
}

export function storedRecord(database: Database.Database, at: number): Uint8Array | undefined {
  const found = database.prepare<[number], Uint8Array>("SELECT data FROM record WHERE offset = ?").pluck().get(at);
  // Trim keeps the genesis aside: it names the log for as long as there is one.
  return found ?? (at === 1 ? (metaValue(database, "genesis") as Uint8Array | undefined) : undefined);
}

/** Removes one slice of records up to `through`; the newest record always stays. Returns how many went. */
export function trimSlice(database: Database.Database, through: number): number {
  const removed = database
    .transaction(() => {
      const { first, last } = ends(database);
      if (first === 1 && last > 1) {
        database.prepare("INSERT OR IGNORE INTO meta SELECT 'genesis', data FROM record WHERE offset = 1").run();
      }
      const upTo = Math.min(through, last - 1, sliceEnd(database));
      return database.prepare("DELETE FROM record WHERE offset <= ?").run(upTo).changes;
    })
    .immediate();
  crashPoint("log: trimmed");
  return removed;
}

function sliceEnd(database: Database.Database): number {
  const rows = database
    .prepare<[number], { offset: number; bytes: number }>(
      "SELECT offset, length(data) AS bytes FROM record ORDER BY offset LIMIT ?",
    )
    .all(TRIM_SLICE_ROWS);
  let bytes = 0;
  const end = rows.findIndex((row) => (bytes += row.bytes) >= TRIM_SLICE_BYTES);
  return rows[end === -1 ? rows.length - 1 : end]?.offset ?? 0;
}

/** Names what SQLite said. Room and reachability can come back by themselves; the rest cannot. */
export function toStoreError(error: unknown, location: string): unknown {
  const errno = errnoOf(error) ?? "";
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof TidemarkError) return error;
  if (errno === "SQLITE_FULL" || errno === "ENOSPC" || errno === "EDQUOT") {
    return new TidemarkError("LOG_FULL", `${location}: no room on its disk (${message})`, {
      hint: "Free space on the file system of the log; capture goes on by itself.",
      cause: error,
    });
  }
  if (
    errno === "EACCES" ||
    errno === "EPERM" ||
    errno === "EROFS" ||
    errno.startsWith("SQLITE_READONLY") ||
    errno.startsWith("SQLITE_CANTOPEN")
  ) {
    return new TidemarkError("LOG_DENIED", `${location}: ${message}`, {
      hint: "Give this user read and write permission on the log's directory and the files in it.",
      cause: error,
    });
  }
  if (errno.startsWith("SQLITE_CORRUPT") || errno === "SQLITE_NOTADB") {
    return new TidemarkError("LOG_CORRUPT", `${location}: log.db is damaged (${message})`, {
      hint: "Check the disk. Move the log aside, remove the capture agent's state directory and start capture again for a new log.",
      cause: error,
    });
  }
  return unreachableError(location, message, error);
}
