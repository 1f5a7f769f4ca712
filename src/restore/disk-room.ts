import fs from "node:fs";
import path from "node:path";

import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import type { PlannedRestore } from "./make-plan.ts";

/** Directories, the lock, and what the file system itself needs. */
const EXTRA_BYTES = 1024 * 1024;

/** The largest that the databases are while they are built, and the trees. */
export function bytesNeeded({ plan, trees }: PlannedRestore): number {
  const ofTrees = trees?.plan.diskBytes() ?? 0;
  return plan.databases.reduce((sum, { peakPages, pageSize }) => sum + peakPages * pageSize, EXTRA_BYTES + ofTrees);
}

/** Of the file system that holds a directory, or would hold it. */
export function bytesFree(directory: string): number {
  try {
    const { bavail, bsize } = fs.statfsSync(directory);
    return bavail * bsize;
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" || path.dirname(directory) === directory) throw error;
    return bytesFree(path.dirname(directory));
  }
}

/** @throws DISK_FULL */
export function requireRoom(planned: PlannedRestore, workspace: { directory: string; target: { path: string } }): void {
  const needed = bytesNeeded(planned);
  const free = bytesFree(workspace.directory);
  if (needed > free) throw noRoom(workspace.target.path, { needed, free });
}

export function isNoRoom(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT", "SQLITE_FULL"].includes(errnoOf(error) ?? "");
}

export function noRoom(directory: string, room: { needed: number; free: number; cause?: unknown }): TidemarkError {
  const evidence = `the restore needs ${mebibytes(room.needed)}, ${mebibytes(room.free)} are free`;
  return new TidemarkError("DISK_FULL", `no room for the restore on the disk of ${directory}: ${evidence}`, {
    hint: "Free space there or name a target on another disk. Nothing was left behind.",
    cause: room.cause,
  });
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
