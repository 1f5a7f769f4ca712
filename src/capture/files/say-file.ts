import fs, { type BigIntStats } from "node:fs";

import type { FilePut } from "../../event/kinds.ts";
import { fsPath, type TreePath } from "../../event/tree-path.ts";
import { metadataOf } from "../../tree/metadata.ts";
import type { EarlyRead } from "./early-reads.ts";
import { inodeOf, stampOf } from "./entry.ts";
import type { Content } from "./read-file.ts";
import { hasKnownParent, type Place } from "./say-directory.ts";
import type { TreeParts } from "./tree-parts.ts";

/** How a file stood when it was looked at. */
export interface Seen {
  readonly stat: BigIntStats;
  /** Wall clock, ms. 0: it has changed since. */
  readonly atMs: number;
  /** Gets other names of the file that are to be looked at. */
  readonly again: Set<TreePath>;
  /** What was read of it early, and is still so. */
  readonly early?: EarlyRead | undefined;
  /** Something was said of it. */
  readonly onPut: (path: TreePath) => void;
}

export interface Found {
  readonly seen: Seen;
  readonly content: Omit<Content, "pieces">;
  readonly xattrs: FilePut["xattrs"];
}

/** Says how a file stands and what it holds; its content is said before. false: the directory that holds it is not known. */
export function sayFile(parts: TreeParts, place: Place, { seen, content, xattrs }: Found): boolean {
  const { entries, publisher, name } = parts;
  const { path } = place;
  const { stat, atMs } = seen;
  const before = entries.get(path);
  if (!hasKnownParent(parts, place)) return false;
  const { size, hash, chunks, inline } = content;
  const event: FilePut = {
    kind: "file.put",
    tree: name,
    path,
    put: publisher.nextPut(),
    parts: 0,
    size,
    hash,
    chunks,
    ...metadataOf(stat),
    ...(xattrs ? { xattrs } : {}),
    ...groupOf(parts, place, seen),
    ...(inline ? { data: inline } : {}),
  };
  if (before?.kind === "dir") publisher.remove({ kind: "dir.remove", tree: name, path });
  if (before && before.group > 0 && inodeOf(before) !== stat.ino)
    for (const other of entries.pathsOfInode(inodeOf(before))) seen.again.add(other);
  if (publisher.put(event, { stamp: atMs > 0 ? stampOf(stat, atMs) : "" })) seen.onPut(path);
  return true;
}

/** Names of one file share a number. Other names that were looked at before it had this one are looked at again. */
function groupOf(
  { entries }: TreeParts,
  { root, path }: Place,
  { stat, atMs, again }: Seen,
): { readonly group?: number } {
  if (stat.nlink <= 1n) return {};
  const stamp = stampOf(stat, atMs).replace("?", "");
  const before = entries.get(path);
  let group = before && inodeOf(before) === stat.ino ? before.group : 0;
  for (const other of entries.pathsOfInode(stat.ino)) {
    const entry = entries.get(other);
    if (!entry || other === path) continue;
    if (entry.stamp.replace("?", "") !== stamp || entry.group === 0) again.add(other);
    if (group > 0 || entry.group === 0) continue;
    const standing = statOf(fsPath(root, other));
    if (standing?.ino === stat.ino && standing.dev === stat.dev) group = entry.group;
  }
  return { group: group > 0 ? group : entries.newGroup() };
}

/** Undefined: nothing is there, or it cannot be told. */
export function statOf(file: Buffer): BigIntStats | undefined {
  try {
    return fs.lstatSync(file, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
