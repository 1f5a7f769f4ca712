import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { errnoOf } from "../runtime/errors.ts";

const LOCK_FILE = "lock";

/** Says that the process working in a directory lives: the lock ends with it, however it ends. */
export function holdLock(directory: string): Database.Database {
  const lock = new Database(path.join(directory, LOCK_FILE), { timeout: 0 });
  try {
    lock.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    lock.close();
    throw error;
  }
  return lock;
}

export function isLocked(directory: string): boolean {
  const file = path.join(directory, LOCK_FILE);
  if (!fs.existsSync(file)) return isAlive(pidOf(directory));
  try {
    holdLock(directory).close();
    return false;
  } catch (error) {
    if (errnoOf(error)?.startsWith("SQLITE_BUSY")) return true;
    throw error;
  }
}

/** Between making a work directory and locking it, its name alone says whose it is: `…-<pid>-<random>`. */
export function pidOf(directory: string): number {
  return Number(/-(\d+)-[0-9a-f]+$/.exec(directory)?.[1] ?? 0);
}

function isAlive(pid: number): boolean {
  if (pid === 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === "EPERM";
  }
}
