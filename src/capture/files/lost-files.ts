import fs, { type BigIntStats } from "node:fs";

import { fsPath, joinPath, type TreePath } from "../../event/tree-path.ts";
import type { Announced, Gone } from "./dirty-paths.ts";

/**
 * Commits were fetched between two moments: all that were made before the first are known, and all that are known were made
 * before the second. Each as the number of announcements from there on, and by the clock that files get their times from.
 */
export interface Fetched {
  readonly from: number;
  readonly to: number;
  readonly fromNs: bigint;
  readonly toNs: bigint;
}

/** Of the commits nothing is known. */
export const ANY_TIME: Fetched = { from: 0, to: Infinity, fromNs: 0n, toNs: 2n ** 63n };

/** Something came and went in a directory between these times, unannounced. */
export interface Unseen {
  readonly bornNs: bigint;
  readonly goneNs: bigint;
}

/**
 * Whether it was there, or was changed, and went before it could be read. `since`: what was announced of a path after it was
 * looked at, everything that happened before the look included. Only what was there within `fetched` may have a row in the commits.
 */
export function isLost(
  root: string,
  { path, announced, mayBeMoved, wasCaptured }: Gone,
  {
    since: sinceOf,
    fetched,
  }: { readonly since: (path: TreePath) => Announced | "all" | undefined; readonly fetched: Fetched },
): boolean {
  const since = sinceOf(path);
  if (since === "all") return announced.born <= fetched.to;
  const goes = since && since.renames > 0 ? since : announced;
  // Only its going: what it was before was looked at before, and judged then.
  if (goes === announced && announced.renames + announced.changes <= 1) return false;
  if (goes.generation < fetched.from || announced.born > fetched.to) return false;
  if (wasCaptured) return goes === since && since.renames + since.changes > 1;
  return !mayBeMoved || !wasMoved(root, goes.next, goes.next && sinceOf(goes.next.path));
}

export function isWithin({ bornNs, goneNs }: Unseen, { fromNs, toNs }: Fetched): boolean {
  return goneNs >= fromNs && bornNs <= toNs;
}

export function isThere(root: string, path: TreePath): boolean {
  return statOf(root, path) !== undefined;
}

/**
 * Whether it got the next name. A file that was made there, not moved, is empty until it is written to; and where nothing is
 * by now, more than its end was announced: whether that is a loss is its own affair.
 */
function wasMoved(root: string, next: Announced | undefined, since: Announced | "all" | undefined): boolean {
  if (!next || next.isChanged) return false;
  const stat = statOf(root, next.path);
  if (stat) return stat.isFile() && stat.size > 0n;
  const later = since === undefined || since === "all" || since === next ? 0 : since.renames;
  return next.renames + later > 1;
}

/** Whether something was lost in a directory of which nothing was announced, and may have a row in commits that were fetched so. */
export function hasLost(root: string, directory: TreePath, fetched: Fetched): boolean {
  const stat = statOf(root, directory);
  // With all that was in it.
  if (!stat) return true;
  if (stat.mtimeNs < fetched.fromNs || stat.birthtimeNs > fetched.toNs) return false;
  return unseenIn(root, directory) !== undefined;
}

/** Whether the last that happened in this directory was that something went: its time is newer than all that is in it. */
export function unseenIn(root: string, directory: TreePath): Unseen | undefined {
  const stat = statOf(root, directory);
  if (!stat) return { bornNs: 0n, goneNs: ANY_TIME.toNs };
  const unseen = { bornNs: stat.birthtimeNs, goneNs: stat.mtimeNs };
  let newestNs = stat.birthtimeNs;
  try {
    for (const name of fs.readdirSync(fsPath(root, directory), { encoding: "latin1" })) {
      const entry = statOf(root, joinPath(directory, name));
      if (entry && entry.ctimeNs > newestNs) newestNs = entry.ctimeNs;
    }
  } catch {
    return unseen;
  }
  return stat.mtimeNs > newestNs ? unseen : undefined;
}

function statOf(root: string, path: TreePath): BigIntStats | undefined {
  try {
    return fs.lstatSync(fsPath(root, path), { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
