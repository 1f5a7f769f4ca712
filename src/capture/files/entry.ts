import { hash } from "node:crypto";
import type { BigIntStats } from "node:fs";

import type { DirectoryPut, FilePut, LinkPut, PathMetadata } from "../../event/kinds.ts";
import { byteString } from "../../event/tree-path.ts";

export type EntryKind = "file" | "dir" | "link";

/** What the agent knows of one place in a tree: how it stood on disk when it was looked at, and what the log says of it. */
export interface Entry {
  readonly kind: EntryKind;
  /** See `stampOf`; differs from every later one when the file was changed after it was read. Empty: not known. */
  readonly stamp: string;
  /** Bytes of a file's content; 0 of others. */
  readonly size: number;
  /** Number shared by the names of one file; 0: none. */
  readonly group: number;
  /** See `sayingOf`. */
  readonly saying: string;
}

/** Times of a file come from a clock that ticks: a change this soon after another one may leave them as they are. */
const TICK_NS = 20_000_000n;

/**
 * Everything that stat says and that a change would change. Not the device: its number may be another one after every boot.
 * `readAtMs`: when the last look at it began; a file that was changed just before gets a stamp that equals no other.
 */
export function stampOf(stat: BigIntStats, readAtMs: number): string {
  const { ino, size, mtimeNs, ctimeNs, mode, uid, gid, nlink } = stat;
  return `${isYoung(stat, readAtMs) ? "?" : ""}${ino} ${size} ${mtimeNs} ${ctimeNs} ${mode} ${uid} ${gid} ${nlink}`;
}

/** It changed just before it was looked at: another change may leave its times as they are. */
export function isYoung({ ctimeNs }: BigIntStats, readAtMs: number): boolean {
  return ctimeNs + TICK_NS > BigInt(Math.floor(readAtMs)) * 1_000_000n;
}

/** Of a file; 0n when it is not known. */
export function inodeOf({ kind, stamp }: Entry): bigint {
  return kind === "file" ? inodeNumberOf(stamp) : 0n;
}

export function inodeNumberOf(stamp: string): bigint {
  if (stamp === "") return 0n;
  return BigInt(stamp.slice(stamp.startsWith("?") ? 1 : 0, stamp.indexOf(" ")));
}

/** Whether nothing changed between two calls of stat. */
export function sameStat(one: BigIntStats, other: BigIntStats): boolean {
  return (
    one.ino === other.ino &&
    one.dev === other.dev &&
    one.size === other.size &&
    one.mtimeNs === other.mtimeNs &&
    one.ctimeNs === other.ctimeNs &&
    one.mode === other.mode
  );
}

/** What an event says of a place, apart from where it is and how its content came. */
export type Said =
  | Pick<FilePut, "kind" | "hash" | "size" | "group" | keyof PathMetadata>
  | Pick<DirectoryPut, "kind" | keyof PathMetadata>
  | Pick<LinkPut, "kind" | "target" | "uid" | "gid" | "mtimeNs">;

/** Two events that say the same of a place have the same saying: 22 characters. */
export function sayingOf(event: Said): string {
  switch (event.kind) {
    case "file.put":
      return digest(`f ${byteString(event.hash)} ${event.size} ${event.group ?? 0} ${ofMetadata(event)}`);
    case "dir.put":
      return digest(`d ${ofMetadata(event)}`);
    case "link.put":
      return digest(`l ${event.uid} ${event.gid} ${event.mtimeNs} ${event.target}`);
    default:
      return event satisfies never;
  }
}

function ofMetadata({ mode, uid, gid, mtimeNs, xattrs }: PathMetadata): string {
  const plain = `${mode} ${uid} ${gid} ${mtimeNs}`;
  if (!xattrs) return plain;
  const listed = [...xattrs].sort(([one], [other]) => (one < other ? -1 : 1));
  return `${plain} ${JSON.stringify(listed.map(([name, value]) => [name, byteString(value)]))}`;
}

function digest(text: string): string {
  return hash("sha256", text, "base64").slice(0, 22);
}
