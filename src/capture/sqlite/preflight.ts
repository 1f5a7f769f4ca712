import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { DATABASE_HEADER_BYTES, decodeDatabaseHeader } from "../../format/database-header.ts";
import { errnoOf, TidemarkError } from "../../runtime/errors.ts";

/** Older libraries can lose commits when a writer races another process's checkpoint (design.md section 3). */
export const OLDEST_SAFE_SQLITE = 3_051_003;

/** Refuses to run on a SQLite library that can lose commits. @throws SQLITE_TOO_OLD */
export function requireSafeSqlite(): void {
  const probe = new Database(":memory:");
  const version = String(probe.prepare("SELECT sqlite_version()").pluck().get());
  probe.close();
  const [major = 0, minor = 0, patch = 0] = version.split(".").map(Number);
  if (major * 1_000_000 + minor * 1000 + patch >= OLDEST_SAFE_SQLITE) return;
  throw new TidemarkError(
    "SQLITE_TOO_OLD",
    `this better-sqlite3 carries SQLite ${version}; 3.51.3 is the oldest safe one`,
    {
      hint: "Install the dependencies again from the lock file with `npm ci`.",
    },
  );
}

/**
 * Looks at the file before SQLite does, so that what is wrong gets a name. Must not be called while this process has
 * the database open: closing the descriptor would drop its locks.
 */
export function preflight(databasePath: string): void {
  const bytes = readHeader(databasePath);
  if (bytes.length === 0) throw notWal(databasePath, "is an empty file");
  const header = decodeDatabaseHeader(bytes);
  if (!header) {
    throw new TidemarkError("DATABASE_NOT_SQLITE", `${databasePath} is not an SQLite database`, {
      hint: "Give the path of the database file itself (encrypted databases cannot be captured).",
    });
  }
  if (!header.wal) throw notWal(databasePath, "is not in WAL mode");
  requireWritableDirectory(databasePath);
}

function readHeader(databasePath: string): Uint8Array {
  let fd: number | undefined;
  try {
    if (!fs.statSync(databasePath).isFile()) {
      throw new TidemarkError("DATABASE_NOT_SQLITE", `${databasePath} is not a file`, {
        hint: "Give the path of the database file; use --files for directories when they are supported.",
      });
    }
    fd = fs.openSync(databasePath, "r");
    const bytes = new Uint8Array(DATABASE_HEADER_BYTES);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, bytes.length, 0));
  } catch (error) {
    throw explainOpen(databasePath, error);
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

function explainOpen(databasePath: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === "ENOENT" || errno === "ENOTDIR") {
    return new TidemarkError("DATABASE_MISSING", `there is no database at ${databasePath}`, {
      hint: "Start the application once so that it makes its database, or correct the path.",
      cause: error,
    });
  }
  if (errno === "EACCES" || errno === "EPERM" || errno === "ELOOP") {
    return new TidemarkError("DATABASE_UNREADABLE", `${databasePath} cannot be read (${errno})`, {
      hint: "Run Tidemark as the application's user, or give its user read and write rights on the file and its directory.",
      cause: error,
    });
  }
  return error;
}

function requireWritableDirectory(databasePath: string): void {
  const directory = path.dirname(databasePath);
  try {
    fs.accessSync(databasePath, fs.constants.R_OK | fs.constants.W_OK);
    fs.accessSync(directory, fs.constants.R_OK | fs.constants.W_OK | fs.constants.X_OK);
  } catch (error) {
    throw new TidemarkError(
      "DATABASE_UNREADABLE",
      `no read and write rights on ${databasePath} and its directory; SQLite needs them for -wal and -shm`,
      {
        hint: "Run Tidemark as the application's user, or add its user to the group that owns the directory.",
        cause: error,
      },
    );
  }
}

function notWal(databasePath: string, what: string): TidemarkError {
  return new TidemarkError("DATABASE_NOT_WAL", `${databasePath} ${what}`, {
    hint: `Switch it once with \`sqlite3 '${databasePath}' 'PRAGMA journal_mode=WAL'\`, or start Tidemark with --set-wal.`,
  });
}

/** Switches a database to WAL mode, on the user's word only. @throws DATABASE_BUSY when the app holds it */
export function setWalMode(databasePath: string, { waitMs }: { readonly waitMs: number }): void {
  readHeader(databasePath);
  const connection = new Database(databasePath, { fileMustExist: true, timeout: waitMs });
  try {
    const mode: unknown = connection.pragma("journal_mode=WAL", { simple: true });
    if (mode === "wal") return;
    throw new TidemarkError("DATABASE_BUSY", `${databasePath} stayed in journal mode ${String(mode)}`, {
      hint: "Stop the application for a moment and try again.",
    });
  } catch (error) {
    if (!String(errnoOf(error)).startsWith("SQLITE_BUSY")) throw error;
    throw new TidemarkError("DATABASE_BUSY", `${databasePath} is in use and cannot be switched to WAL mode now`, {
      hint: "Stop the application for a moment and try again.",
      cause: error,
    });
  } finally {
    connection.close();
  }
}
