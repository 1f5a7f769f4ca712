import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import fs, { type BigIntStats } from "node:fs";

import type { PathMetadata } from "../../event/kinds.ts";
import { bytesOf, shownPath } from "../../event/tree-path.ts";
import { errnoOf } from "../../runtime/errors.ts";
import { readUpTo } from "../../sqlite/write-fully.ts";
import { mayChangeOwners } from "../../tree/metadata.ts";
import {
  chunksOfEntry,
  type DirectoryEntry,
  type FileEntry,
  type LinkEntry,
  type TreeEntry,
  type TreeIndex,
} from "../../tree/tree-index.ts";
import { readXattrs } from "../../tree/xattrs.ts";
import { sameTime } from "./file-stager.ts";
import { standbyPath } from "./standby-path.ts";
import { straysIn } from "./stray-files.ts";
import type { Place } from "./touched-places.ts";
import type { TreeReader } from "./tree-reader.ts";

/** What looking at a place costs beside reading its content, for the pace. */
const LOOK_BYTES = 4096;

/** Some bytes were looked at, and perhaps something was found. */
export interface CheckStep {
  readonly bytes: number;
  /** One more place was compared. */
  readonly place?: true;
  /** Not what the index says. */
  readonly wrong?: Place & { readonly evidence: string };
  /** What the log knows nothing of. */
  readonly strays?: readonly string[];
}

/**
 * Compares everything in the trees of a standby with the index, contents included, step by step. Between two steps
 * events may be applied. @throws PATH_UNSAFE when a symbolic link stands where a directory should
 */
export function* checkTrees(index: TreeIndex, reader: TreeReader): Generator<CheckStep> {
  for (const tree of index.names()) {
    for (const entry of index.entries(tree)) {
      // What was applied meanwhile is another entry, and what stands there now is none of this one's.
      const isCurrent = (): boolean => index.entry(tree, entry.path)?.offset === entry.offset;
      const evidence = yield* checkWhileCurrent(entry, reader, isCurrent);
      const current = isCurrent();
      const wrong = evidence === undefined || !current ? {} : { wrong: { tree, path: entry.path, evidence } };
      yield { bytes: LOOK_BYTES, place: true, ...wrong };
      if (entry.kind === "dir" && current) yield strayStep(index, reader, entry);
    }
  }
}

function strayStep(index: TreeIndex, reader: TreeReader, entry: DirectoryEntry): CheckStep {
  if (!reader.stat(standbyPath(entry.tree, entry.path))?.isDirectory()) return { bytes: 0 };
  const strays = straysIn(index, reader, entry).map((path) => shownPath(standbyPath(entry.tree, path)));
  return { bytes: LOOK_BYTES, ...(strays.length > 0 ? { strays } : {}) };
}

/** @throws PATH_UNSAFE, unless it is of an entry that is no more */
function* checkWhileCurrent(
  entry: TreeEntry,
  reader: TreeReader,
  isCurrent: () => boolean,
): Generator<CheckStep, string | undefined> {
  try {
    return yield* checkEntry(entry, reader);
  } catch (error) {
    if (isCurrent()) throw error;
    return undefined;
  }
}

/** Returns what is wrong with it. */
function* checkEntry(entry: TreeEntry, reader: TreeReader): Generator<CheckStep, string | undefined> {
  const at = standbyPath(entry.tree, entry.path);
  const stat = reader.stat(at);
  if (!stat) return "it is not there";
  switch (entry.kind) {
    case "dir":
      if (stat.isSymbolicLink()) reader.inside(at);
      if (!stat.isDirectory()) return "it is no directory";
      return metadataProblem(stat, entry.metadata) ?? xattrProblem(() => reader.inside(at), entry.metadata);
    case "link":
      return linkProblem(entry, stat, reader);
    case "file":
      return (
        fileProblem(entry, stat) ??
        (isUtf8(bytesOf(at)) ? xattrProblem(() => reader.textPlace(at), entry.metadata) : undefined) ??
        (yield* contentProblem(entry, reader))
      );
    default:
      return entry satisfies never;
  }
}

function linkProblem(entry: LinkEntry, stat: BigIntStats, reader: TreeReader): string | undefined {
  if (!stat.isSymbolicLink()) return "it is no symbolic link";
  const target = reader.readLink(standbyPath(entry.tree, entry.path));
  if (Buffer.compare(target, bytesOf(entry.target)) !== 0) return "it leads elsewhere";
  return sameTime(stat.mtimeNs, entry.mtimeNs) ? ownerProblem(stat, entry) : "it has another time";
}

function fileProblem(entry: FileEntry, stat: BigIntStats): string | undefined {
  if (!stat.isFile()) return "it is no file";
  if (stat.size !== BigInt(entry.size)) return `it has ${stat.size} bytes, the log says ${entry.size}`;
  return metadataProblem(stat, entry.metadata);
}

function metadataProblem(stat: BigIntStats, known: PathMetadata): string | undefined {
  if (Number(stat.mode & 0o7777n) !== known.mode) return "it has other permissions";
  if (!sameTime(stat.mtimeNs, known.mtimeNs)) return "it has another time";
  return ownerProblem(stat, known);
}

function ownerProblem(stat: BigIntStats, known: { readonly uid: number; readonly gid: number }): string | undefined {
  if (!mayChangeOwners || (Number(stat.uid) === known.uid && Number(stat.gid) === known.gid)) return undefined;
  return "it has another owner";
}

function xattrProblem(place: () => string, { xattrs = new Map() }: PathMetadata): string | undefined {
  const found = readXattrs(place()) ?? new Map<string, Uint8Array>();
  const isAsKnown = [...xattrs].every(([name, value]) => Buffer.compare(found.get(name) ?? MISSING, value) === 0);
  // What only root may set is not there when we are not.
  if (!mayChangeOwners || (isAsKnown && found.size === xattrs.size)) return undefined;
  return "it has other extended attributes";
}

const MISSING = Buffer.from("\0missing\0");

/** A file that is replaced while it is read is read to its end as it was. */
function* contentProblem(entry: FileEntry, reader: TreeReader): Generator<CheckStep, string | undefined> {
  let fd;
  try {
    fd = reader.openFile(standbyPath(entry.tree, entry.path));
  } catch (error) {
    return `it cannot be read: ${errnoOf(error) ?? String(error)}`;
  }
  try {
    const hash = createHash("sha256");
    let position = 0;
    // In the pieces in which it came: they are of a bounded size.
    for (const { size } of chunksOfEntry(entry)) {
      const data = Buffer.allocUnsafe(size);
      if (readUpTo(fd, data, position) !== size) return `it ends before byte ${position + size}`;
      hash.update(data);
      position += size;
      yield { bytes: size };
    }
    return Buffer.compare(hash.digest(), entry.hash) === 0 ? undefined : "its content is not what the log says";
  } catch (error) {
    return `it cannot be read: ${errnoOf(error) ?? String(error)}`;
  } finally {
    fs.closeSync(fd);
  }
}
