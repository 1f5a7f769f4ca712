import fs from "node:fs";
import path from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { promisify } from "node:util";

import { crashPoint } from "../../runtime/crash-point.ts";
import { makeDirectory, syncDirectory } from "../../runtime/durable-directory.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import type { PageSource } from "./frame-writer.ts";
import { isBusy, openStandby } from "./wal-writer.ts";
import { writeFully } from "../../sqlite/write-fully.ts";

const fsync = promisify(fs.fsync);
const PAGES_PER_TURN = 256;
const COMPANIONS = ["-wal", "-shm"] as const;

/**
 * Makes a standby database out of a full copy: a new file under a temporary name in the same directory, made durable,
 * then renamed. There is nothing to be hot about, because no reader can have it open yet.
 */
export async function buildDatabase(
  databasePath: string,
  copy: {
    pages: PageSource;
    pageSize: number;
    sizePages: number;
    /** Where an older database goes; without it, it is replaced, and must not be open anywhere. */
    aside?: string | undefined;
  },
): Promise<void> {
  const temporary = path.join(path.dirname(databasePath), `.${path.basename(databasePath)}.tidemark-new`);
  const fd = fs.openSync(temporary, "w");
  try {
    let turn = 0;
    for (const pageNumber of copy.pages.pageNumbers()) {
      writeFully(fd, copy.pages.get(pageNumber), (pageNumber - 1) * copy.pageSize);
      turn += 1;
      if (turn % PAGES_PER_TURN === 0) await nextTurn();
    }
    fs.ftruncateSync(fd, copy.sizePages * copy.pageSize);
    await fsync(fd);
  } finally {
    fs.closeSync(fd);
  }
  crashPoint("standby: new file made");
  if (copy.aside === undefined) retire(databasePath);
  else moveAside(databasePath, copy.aside);
  crashPoint("standby: old file gone");
  fs.renameSync(temporary, databasePath);
  crashPoint("standby: new file named");
  syncDirectory(path.dirname(databasePath));
}

/**
 * Takes the -wal and -shm of an older database out of the way: a file that is renamed over it must not meet them.
 * @throws DATABASE_BUSY when another process has the older database open
 */
function retire(databasePath: string): void {
  if (fs.existsSync(databasePath)) closeAsLast(databasePath);
  for (const suffix of COMPANIONS) fs.rmSync(databasePath + suffix, { force: true });
  syncDirectory(path.dirname(databasePath));
}

/** Moves a database with its companions: who has it open goes on reading the old one. */
function moveAside(databasePath: string, aside: string): void {
  makeDirectory(path.dirname(aside));
  for (const suffix of ["", ...COMPANIONS]) {
    fs.rmSync(aside + suffix, { force: true });
    if (fs.existsSync(databasePath + suffix)) fs.renameSync(databasePath + suffix, aside + suffix);
    crashPoint("standby: between moves aside");
  }
  syncDirectory(path.dirname(databasePath));
}

/** The last connection that closes moves the WAL into the database and deletes it: if it stays, somebody is there. */
function closeAsLast(databasePath: string): void {
  const connection = openStandby(databasePath);
  try {
    connection.pragma("schema_version");
  } catch (error) {
    if (isBusy(error)) throw inUse(databasePath);
    throw error;
  } finally {
    connection.close();
  }
  if (COMPANIONS.some((suffix) => fs.existsSync(databasePath + suffix))) throw inUse(databasePath);
}

function inUse(databasePath: string): TidemarkError {
  return new TidemarkError(
    "DATABASE_BUSY",
    `${databasePath} must be replaced by a new file, and a reader has it open`,
    {
      hint: "Close every reader of this standby database (`fuser` names them); apply goes on by itself.",
    },
  );
}
