import fs, { type BigIntStats } from "node:fs";

import type { DirectoryPut } from "../../event/kinds.ts";
import { fsPath, parentPath, type TreePath, TREE_ROOT } from "../../event/tree-path.ts";
import { errnoOf } from "../../runtime/errors.ts";
import { metadataOf } from "../../tree/metadata.ts";
import { stampOf } from "./entry.ts";
import type { TreeParts } from "./tree-parts.ts";
import { readPathXattrs } from "./tree-xattrs.ts";

export interface Place {
  /** Real path of the tree. */
  readonly root: string;
  readonly path: TreePath;
}

/** Says how a directory stands, unless that is known, or `always`. false: the directory that holds it is not known. */
export function sayDirectory(
  parts: TreeParts,
  { root, path }: Place,
  { stat, always }: { readonly stat: BigIntStats; readonly always: boolean },
): boolean {
  const { entries, publisher, name, problems, clock } = parts;
  if (!hasKnownParent(parts, { root, path })) return false;
  const stamp = stampOf(stat, clock.now());
  if (!always && entries.get(path)?.stamp === stamp) return true;
  const xattrs = readPathXattrs(root, path, problems);
  if (xattrs === "changed") return false;
  const plain = { kind: "dir.put" as const, tree: name, path, ...metadataOf(stat) };
  const event: DirectoryPut = xattrs ? { ...plain, xattrs } : plain;
  publisher.put(event, { stamp, always });
  return true;
}

/**
 * Whether the log has the directory that holds a path: if not it was removed meanwhile. One that is left out and only
 * passed through is said now, because something in it is brought back.
 */
export function hasKnownParent(parts: TreeParts, { root, path }: Place): boolean {
  const parent = parentPath(path);
  if (path === TREE_ROOT || parts.entries.get(parent)?.kind === "dir") return true;
  if (parts.selection.of(parent, true) !== "through") return false;
  const stat = lstat({ root, path: parent });
  if (!stat?.isDirectory() || !sayDirectory(parts, { root, path: parent }, { stat, always: false })) return false;
  parts.touched.add(parentPath(parent));
  return true;
}

/** Undefined: nothing is there. @throws EACCES and the like */
export function lstat({ root, path }: Place): BigIntStats | undefined {
  try {
    return fs.lstatSync(fsPath(root, path), { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    // A directory on the way to it is a file by now.
    if (errnoOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}
