import fs from "node:fs";
import path from "node:path";

import { TidemarkError } from "../runtime/errors.ts";
import { keep, keepUnlessReplaced } from "./replaced-content.ts";
import { removeWork } from "./remove-work.ts";
import { WORK_INFIX, type TargetDirectory } from "./target-directory.ts";
import { isLocked, pidOf } from "./work-lock.ts";

export function workParent(target: TargetDirectory): string {
  return target.work === "inside" ? target.path : path.dirname(target.path);
}

/**
 * Clears up after restores into this target that were killed. One that was killed while the target was exchanged had
 * moved its old content away: that is put back, or kept where it can be seen, never deleted unread.
 *
 * @throws AGENT_RUNNING when one of them still runs
 */
export function sweepDeadWork(target: TargetDirectory): void {
  for (const work of workDirectories(target)) {
    if (isLocked(work)) throw otherRestore(target, pidOf(work));
    const old = path.join(work, "old");
    if (fs.existsSync(old) && fs.readdirSync(old).length > 0) settleOld(old, { work, target });
    removeWork(work);
  }
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
