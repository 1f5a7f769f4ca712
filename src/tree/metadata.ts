import fs, { type BigIntStats } from "node:fs";

import { getAttributeSync, listAttributesSync, removeAttributeSync, setAttributeSync } from "@napi-rs/xattr";

import type { PathMetadata } from "../event/kinds.ts";

/** Set by the kernel or its modules, each host for itself. */
const NOT_OURS = ["security.selinux", "security.ima", "security.evm"];
const MODE_BITS = 0o7777n;
const NS_A_SECOND = 1_000_000_000n;

/** Whether this process may give files to others, and set the attributes that only root may. */
export const mayChangeOwners = process.geteuid?.() === 0;

/** What stat says; extended attributes are read apart. */
export function metadataOf(stat: BigIntStats): PathMetadata {
  const { mode, uid, gid, mtimeNs } = stat;
  return { mode: Number(mode & MODE_BITS), uid: Number(uid), gid: Number(gid), mtimeNs };
}

/**
 * Extended attributes, POSIX ACLs among them, of what is at the path itself: a symbolic link at its end is not followed
 * (and has none). Undefined when there are none, or the file system knows none. A name that is not UTF-8 cannot be asked for.
 * @throws ENOENT and the like as an Error without a code
 */
export function readXattrs(path: string): ReadonlyMap<string, Uint8Array> | undefined {
  const names = listAttributesSync(path).filter(isOurs);
  if (names.length === 0) return undefined;
  const found = new Map<string, Uint8Array>();
  for (const name of names.toSorted()) {
    const value = getAttributeSync(path, name);
    if (value) found.set(name, value);
  }
  return found.size > 0 ? found : undefined;
}

/**
 * Gives a file or directory of ours its owner, rights, attributes and time, in the order in which one does not undo the
 * other: a change of owner clears setuid, an ACL comes after the mode it refines, the time last. Node takes times as
 * doubles: they come out right to a quarter of a microsecond. `path` leads to it without a symbolic link at its end, or is
 * `/proc/self/fd/N/.` of a directory. What only root may is left out when we are not.
 */
export function applyMetadata(path: string, metadata: PathMetadata): void {
  if (mayChangeOwners) fs.chownSync(path, metadata.uid, metadata.gid);
  fs.chmodSync(path, metadata.mode);
  applyXattrs(path, metadata.xattrs ?? new Map());
  const time = fileTime(metadata.mtimeNs);
  fs.utimesSync(path, time, time);
}

/** For fs.utimes and its like. Before 1970 to the millisecond: Node takes a negative number for "now", and a Date for what it is. */
export function fileTime(ns: bigint): number | Date {
  if (ns < 0n) return new Date(Math.floor(Number(ns) / 1e6));
  // Whole seconds and the rest apart: the product of a rounded sum would be off by more.
  return Number(ns / NS_A_SECOND) + Number(ns % NS_A_SECOND) / 1e9;
}

function applyXattrs(path: string, wanted: ReadonlyMap<string, Uint8Array>): void {
  for (const name of listAttributesSync(path).filter(isOurs)) if (!wanted.has(name)) removeAttributeSync(path, name);
  for (const [name, value] of wanted) {
    if (mayChangeOwners || !needsRoot(name)) setAttributeSync(path, name, Buffer.from(value));
  }
}

function isOurs(name: string): boolean {
  if (NOT_OURS.includes(name)) return false;
  return !name.startsWith("system.") || name.startsWith("system.posix_acl_");
}

function needsRoot(name: string): boolean {
  return name.startsWith("security.") || name.startsWith("trusted.");
}
