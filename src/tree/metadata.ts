import fs, { type BigIntStats } from "node:fs";

import type { PathMetadata } from "../event/kinds.ts";
import { errnoOf } from "../runtime/errors.ts";
import { removeOtherXattrs, setXattrs } from "./xattrs.ts";

const MODE_BITS = 0o7777n;
const SETUID = 0o4000;
const SETGID = 0o2000;
const OWNER_WRITES = 0o200;
const NS_A_SECOND = 1_000_000_000n;
const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

/** Whether this process may give files to others, and set the attributes that only root may. */
export const mayChangeOwners = process.geteuid?.() === 0;

/** What stat says; extended attributes are read apart. */
export function metadataOf(stat: BigIntStats): PathMetadata {
  const { mode, uid, gid, mtimeNs } = stat;
  return { mode: Number(mode & MODE_BITS), uid: Number(uid), gid: Number(gid), mtimeNs };
}

/**
 * Gives a file or directory of ours its owner, rights, attributes and time, in the order in which one does not undo the
 * other: a change of owner clears setuid and capabilities, attributes need the right to write, an ACL refines the mode, the
 * time comes last. Node takes times as doubles: they come out right to a quarter of a microsecond. `path` leads to it
 * without a symbolic link at its end, or is `/proc/self/fd/N/.` of a directory.
 *
 * Returns what the file system did not take, to be told: names of extended attributes, `owner`. What only root may is left
 * out when we are not (`mayChangeOwners`), and is not named.
 */
export function applyMetadata(path: string, metadata: PathMetadata): readonly string[] {
  const { mode, xattrs = NO_XATTRS, mtimeNs } = metadata;
  const isRoot = mayChangeOwners;
  const refused = isRoot && !isOwnerTaken(path, metadata) ? ["owner"] : [];
  removeOtherXattrs(path, xattrs, isRoot);
  if (!isRoot && xattrs.size > 0) fs.chmodSync(path, mode | OWNER_WRITES);
  refused.push(...setXattrs(path, xattrs, { part: "others", isRoot }));
  fs.chmodSync(path, harmlessMode(path, metadata));
  refused.push(...setXattrs(path, xattrs, { part: "acl", isRoot }));
  const time = fileTime(mtimeNs);
  fs.utimesSync(path, time, time);
  return refused;
}

/** Root in a container may have an owner that the container does not know, or may not give files away. */
function isOwnerTaken(path: string, { uid, gid }: PathMetadata): boolean {
  try {
    fs.chownSync(path, uid, gid);
    return true;
  } catch (error) {
    if (["EPERM", "EINVAL"].includes(errnoOf(error) ?? "")) return false;
    throw error;
  }
}

/** A program that runs as its owner must not become one that runs as us, because we could not give it that owner. */
function harmlessMode(path: string, { mode, uid, gid }: PathMetadata): number {
  if ((mode & (SETUID | SETGID)) === 0) return mode;
  const stat = fs.statSync(path);
  if (stat.isDirectory()) return mode;
  return mode & ~(stat.uid === uid ? 0 : SETUID) & ~(stat.gid === gid ? 0 : SETGID);
}

/** For fs.utimes and its like. Before 1970 to the millisecond: Node takes a negative number for "now", and a Date for what it is. */
export function fileTime(ns: bigint): number | Date {
  if (ns < 0n) return new Date(Math.floor(Number(ns) / 1e6));
  // Whole seconds and the rest apart: the product of a rounded sum would be off by more.
  return Number(ns / NS_A_SECOND) + Number(ns % NS_A_SECOND) / 1e9;
}
