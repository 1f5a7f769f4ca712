import fs from "node:fs";

import { fsPath, joinPath, type TreePath, TREE_ROOT } from "../../event/tree-path.ts";
import { errnoOf } from "../../runtime/errors.ts";
import type { OwnFiles } from "./own-files.ts";
import { lstat } from "./say-directory.ts";
import type { Selection } from "./selection.ts";

/** One place of a tree, and what capture would do with it. */
export interface ListedPlace {
  readonly path: TreePath;
  readonly kind: "file" | "dir" | "link" | "other";
  readonly bytes: number;
  /** Why it is left out, and everything in it, for people; undefined: it is captured. */
  readonly leftOut: string | undefined;
}

export interface ListTreeOptions {
  /** Absolute path of the directory or single file. */
  readonly root: string;
  readonly selection: Selection;
  readonly own: OwnFiles;
  readonly signal: AbortSignal;
}

/** Everything in a tree, each directory before what is in it. No file is opened. @throws ENOENT when there is no root */
export function* listTree(options: ListTreeOptions): Generator<ListedPlace> {
  const root = fs.realpathSync(options.root);
  options.own.refresh(root);
  const pending: TreePath[] = [TREE_ROOT];
  for (let path = pending.pop(); path !== undefined && !options.signal.aborted; path = pending.pop()) {
    const place = placeOf(root, path, options);
    if (!place) continue;
    if (place.kind !== "dir" || place.leftOut !== undefined) {
      yield place;
      continue;
    }
    const names = namesIn(root, path);
    if (typeof names === "string") {
      yield { ...place, leftOut: names };
      continue;
    }
    if (options.selection.of(path, true) === "take") yield place;
    for (const name of names) pending.push(joinPath(path, name));
  }
}

/** Undefined: it is gone by now. */
function placeOf(root: string, path: TreePath, { selection, own }: ListTreeOptions): ListedPlace | undefined {
  try {
    const stat = lstat({ root, path });
    if (!stat) return undefined;
    const bytes = stat.isFile() ? Number(stat.size) : 0;
    const ours = own.find(path, stat);
    const leftOut = ours === undefined ? selection.whyNot(path, stat.isDirectory()) : `is ${ours}`;
    if (stat.isDirectory()) return { path, kind: "dir", bytes, leftOut };
    if (stat.isFile()) return { path, kind: "file", bytes, leftOut };
    if (stat.isSymbolicLink()) return { path, kind: "link", bytes, leftOut };
    return { path, kind: "other", bytes, leftOut: leftOut ?? "is a FIFO, a socket or a device" };
  } catch (error) {
    return { path, kind: "other", bytes: 0, leftOut: refusal(error) };
  }
}

/** Reversed, because the last one pushed is the next one listed; or why they cannot be read. */
function namesIn(root: string, path: TreePath): string[] | string {
  try {
    return fs.readdirSync(fsPath(root, path), { encoding: "latin1" }).toSorted().toReversed();
  } catch (error) {
    return refusal(error);
  }
}

function refusal(error: unknown): string {
  return `cannot be read (${errnoOf(error) ?? String(error)})`;
}
