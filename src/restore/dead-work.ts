import fs from "node:fs";
import path from "node:path";

import type Database from "better-sqlite3";

import { TidemarkError } from "../runtime/errors.ts";
import { keep, keepUnlessReplaced } from "./replaced-content.ts";
import { removeWork } from "./remove-work.ts";
import { WORK_INFIX, type TargetDirectory } from "./target-directory.ts";
import { holdLock, isLocked, pidOf } from "./work-lock.ts";

export function workParent(target: TargetDirectory): string {
  return target.work === "inside" ? target.path : path.dirname(target.path);
}

const IDENTITY_FILE = "identity";

/** What a killed restore left, taken over: its lock is held. */
export interface DeadWork {
  readonly directory: string;
  readonly lock: Database.Database;
}

/**
 * Clears up after restores into this target that were killed. One that was killed while the target was exchanged had
 * moved its old content away: that is put back, or kept where it can be seen, never deleted unread. Of those of this
 * identity one is left, and returned.
 *
 * @throws AGENT_RUNNING when one of them still runs
 */
export function sweepDeadWork(target: TargetDirectory, identity: string | undefined): DeadWork | undefined {
  let left: DeadWork | undefined;
  for (const work of workDirectories(target)) {
    if (isLocked(work)) throw otherRestore(target, pidOf(work));
    const old = path.join(work, "old");
    const moved = fs.existsSync(old) && fs.readdirSync(old).length > 0;
    if (moved) settleOld(old, { work, target });
    if (!left && !moved && identity !== undefined && identityOf(work) === identity) {
      left = { directory: work, lock: holdLock(work) };
    } else removeWork(work);
  }
  return left;
}

/** Says which restore works there. */
export function nameWork(work: string, identity: string): void {
  const file = path.join(work, IDENTITY_FILE);
  fs.writeFileSync(`${file}.new`, identity);
  fs.renameSync(`${file}.new`, file);
}

export function unnameWork(work: string): void {
  fs.rmSync(path.join(work, IDENTITY_FILE), { force: true });
}

function identityOf(work: string): string | undefined {
  const file = path.join(work, IDENTITY_FILE);
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : undefined;
}

function settleOld(old: string, { work, target }: { work: string; target: TargetDirectory }): void {
  if (target.work === "inside") keep(old, target);
  else if (!fs.existsSync(path.join(work, "new"))) keepUnlessReplaced(old, target);
  else if (fs.existsSync(target.path)) keep(old, target);
  else fs.renameSync(old, target.path);
}

function workDirectories(target: TargetDirectory): string[] {
  const base = path.basename(target.path);
  const beside = list(path.dirname(target.path), `.${base}.${WORK_INFIX}`);
  return target.state === "absent" ? beside : [...beside, ...list(target.path, `.${WORK_INFIX}`)];
}

function list(directory: string, prefix: string): string[] {
  if (!fs.existsSync(directory)) return [];
  return fs
    .readdirSync(directory)
    .filter((name) => name.startsWith(prefix))
    .map((name) => path.join(directory, name));
}

function otherRestore(target: TargetDirectory, pid: number): TidemarkError {
  return new TidemarkError("AGENT_RUNNING", `another restore into ${target.path} is running, process ${pid}`, {
    hint: "Wait until it is done, or stop it, or restore to another directory.",
  });
}
