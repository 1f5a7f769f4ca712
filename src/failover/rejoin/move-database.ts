import fs from "node:fs";
import path from "node:path";

import { makeDirectory, syncDirectory, syncFile } from "../../runtime/durable-directory.ts";
import { errnoOf, TidemarkError } from "../../runtime/errors.ts";
import { findOpenFile, shownProcess } from "../../runtime/open-by-process.ts";

const COMPANIONS = ["-wal", "-shm"] as const;

/** @throws APPLICATION_RUNNING naming the process that has one of these databases open */
export function requireClosed(databases: readonly string[]): void {
  const files = new Set(
    databases.flatMap((file) => ["", ...COMPANIONS, "-journal"].map((suffix) => real(file) + suffix)),
  );
  const found = findOpenFile((file) => files.has(file));
  if (!found) return;
  throw new TidemarkError("APPLICATION_RUNNING", `${found.file} is open in ${shownProcess(found)}`, {
    hint: "Stop whatever uses the databases of this host, and its Tidemark agent, then run `tidemark rejoin` again.",
  });
}

/**
 * Moves a database that nobody has open, its WAL being empty: by its name, or, to another file system, as a copy, after
 * which the old one is removed.
 */
export function moveDatabase(from: string, to: string): void {
  requireClosed([from]);
  if (fs.statSync(`${from}-wal`, { throwIfNoEntry: false })?.size) throw walLeft(from);
  try {
    fs.renameSync(from, to);
  } catch (error) {
    if (errnoOf(error) !== "EXDEV") throw error;
    copyOver(from, to);
  }
  removeDatabase(from);
  syncDirectory(path.dirname(from));
  syncDirectory(path.dirname(to));
}

/** Keeps a database as it lies there, its WAL included. Killed on the way, it goes on when it is called again. */
export function moveWhole(from: string, to: string): void {
  makeDirectory(path.dirname(to), { mode: 0o700 });
  // The database last: as long as it is there, there is something to move.
  for (const suffix of ["-wal", ""]) {
    if (!fs.existsSync(from + suffix)) continue;
    try {
      fs.renameSync(from + suffix, to + suffix);
    } catch (error) {
      if (errnoOf(error) !== "EXDEV") throw error;
      copyOver(from + suffix, to + suffix);
    }
    fs.rmSync(from + suffix, { force: true });
  }
  fs.rmSync(`${from}-shm`, { force: true });
  syncDirectory(path.dirname(from));
  syncDirectory(path.dirname(to));
}

/** The database first: companions without one are nothing. */
export function removeDatabase(file: string): void {
  for (const suffix of ["", ...COMPANIONS]) fs.rmSync(file + suffix, { force: true });
}

function copyOver(from: string, to: string): void {
  const part = `${to}.part`;
  fs.copyFileSync(from, part);
  syncFile(part);
  fs.renameSync(part, to);
}

/** As the kernel names it. */
function real(file: string): string {
  try {
    return fs.realpathSync(file);
  } catch {
    return path.resolve(file);
  }
}

function walLeft(file: string): TidemarkError {
  return new TidemarkError("APPLICATION_RUNNING", `${file}-wal could not be emptied: somebody reads the database`, {
    hint: "Stop whatever uses it (`fuser` names it), then run `tidemark rejoin` again: it goes on.",
  });
}
