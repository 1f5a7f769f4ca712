import fs from "node:fs";

import Database from "better-sqlite3";

import { OLDEST_SAFE_SQLITE, preflight } from "../capture/sqlite/preflight.ts";
import type { Config, DatabaseConfig, DatabasePattern } from "../config/config.ts";
import { DatabaseNames, matchingFiles } from "../config/database-patterns.ts";
import { formatSize } from "../config/units.ts";
import { DATABASE_HEADER_BYTES, decodeDatabaseHeader } from "../format/database-header.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { fail, type Finding, ok, warn } from "./finding.ts";

/** Looks at one database of the primary, without writing to it. */
export function checkDatabase({ path, name }: DatabaseConfig): Finding[] {
  try {
    preflight(path);
  } catch (error) {
    return [fail(error)];
  }
  const size = fs.statSync(path).size;
  return [
    ok("DATABASE", `${name}: ${path} is in WAL mode, ${formatSize(size)}, readable and writable`),
    checkLock(path),
    checkVersion(path),
  ];
}

/** What a pattern finds and what of it cannot join the set. */
export function checkPattern(
  pattern: DatabasePattern,
  { databases, trees }: Pick<Config, "databases" | "trees">,
): Finding[] {
  const files = matchingFiles(pattern);
  if (files.length === 0) {
    const message = `${pattern.where}: nothing matches ${pattern.pattern} yet`;
    return [warn("PATTERN", message, "Correct the pattern, unless its databases are still to come.")];
  }
  const names = new DatabaseNames({ own: [], trees });
  for (const database of databases) names.add(database);
  return files.flatMap((file) => {
    const admitted = names.admit(pattern, file);
    if (!admitted || !("refusal" in admitted)) return [];
    return [warn("PATTERN", admitted.refusal, `Name it by itself: { path: ${file}, name: NAME } in tidemark.yml.`)];
  });
}

/** Another process that works in exclusive locking mode keeps everybody out. */
function checkLock(path: string): Finding {
  // Nobody has it open, so nobody can keep us out; opening it would leave a -wal and a -shm of ours behind.
  if (!fs.existsSync(`${path}-wal`)) return ok("DATABASE_LOCK", `${path} is not open in any program`);
  let connection: Database.Database | undefined;
  try {
    // Read-only: closing such a connection as the last one neither checkpoints nor removes the app's WAL.
    connection = new Database(path, { readonly: true, fileMustExist: true, timeout: 200 });
    connection.prepare("SELECT count(*) FROM sqlite_schema").get();
    return ok("DATABASE_LOCK", `${path} can be read beside the application`);
  } catch (error) {
    return fail(lockError(path, error));
  } finally {
    connection?.close();
  }
}

function lockError(path: string, error: unknown): unknown {
  const errno = errnoOf(error) ?? "";
  if (errno.startsWith("SQLITE_BUSY")) {
    return new TidemarkError("DATABASE_EXCLUSIVE", `${path} is locked by another process`, {
      hint: "Most likely the application sets locking_mode=EXCLUSIVE: remove that, so that others may read.",
      cause: error,
    });
  }
  if (errno.startsWith("SQLITE_CORRUPT") || errno === "SQLITE_NOTADB") {
    return new TidemarkError("DATABASE_CORRUPT", `${path} is damaged: ${errno}`, {
      hint: "Run `PRAGMA integrity_check` on it and repair it before protecting it.",
      cause: error,
    });
  }
  return error;
}

/** Byte 96 of the header: the library that last wrote page 1. */
function checkVersion(path: string): Finding {
  const header = decodeDatabaseHeader(readHeader(path));
  const version = header?.writerVersion ?? 0;
  const text = `${Math.floor(version / 1_000_000)}.${Math.floor(version / 1000) % 1000}.${version % 1000}`;
  if (version === 0) return ok("APP_SQLITE", `${path} does not tell which SQLite library writes it`);
  if (version >= OLDEST_SAFE_SQLITE) return ok("APP_SQLITE", `${path} is written by SQLite ${text}`);
  return warn(
    "APP_SQLITE_OLD",
    `${path} is written by SQLite ${text}; before 3.51.3 SQLite can lose commits when a write meets another process's checkpoint`,
    "Give the application SQLite 3.51.3 or newer.",
  );
}

function readHeader(path: string): Uint8Array {
  const fd = fs.openSync(path, "r");
  try {
    const bytes = new Uint8Array(DATABASE_HEADER_BYTES);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, bytes.length, 0));
  } finally {
    fs.closeSync(fd);
  }
}
