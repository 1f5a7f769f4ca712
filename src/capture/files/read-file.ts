import { hash } from "node:crypto";
import fs, { type BigIntStats, constants } from "node:fs";

import { CONTENT_ID_BYTES, encodeChunks } from "../../event/chunk-list.ts";
import { type ByteString, byteString } from "../../event/tree-path.ts";
import { errnoOf } from "../../runtime/errors.ts";
import { chunkLength } from "../../tree/chunker.ts";
import { contentId } from "../../tree/content-id.ts";
import { sameStat } from "./entry.ts";
import { standsAt } from "./real-place.ts";

/** Content up to this size stands in the file's own record. */
export const INLINE_BYTES = 64 * 1024;
/** Files up to this size are read in one go; larger ones in a thread. */
export const WHOLE_BYTES = 1024 * 1024;

/** What a file holds. */
export interface Content {
  readonly size: number;
  /** SHA-256 of all of it. */
  readonly hash: Uint8Array;
  readonly chunks: Uint8Array;
  /** All of it, when it stands in the file's own record. */
  readonly inline?: Uint8Array;
  /** Its chunks, when they were not given to the log on the way. */
  readonly pieces: readonly { readonly id: ByteString; readonly data: Uint8Array }[];
}

/** How content is named, and which content need not be kept, for the log has it. */
export interface ContentNames {
  readonly nameKey: Uint8Array | undefined;
  readonly knows: (id: ByteString) => boolean;
}

/** Why a file was not read. changed: it is another one by now, or was written; look again. */
export type Unread = { readonly kind: "changed" } | { readonly kind: "unreadable"; readonly error: unknown };

export type WholeRead = { readonly kind: "content"; readonly content: Content } | Unread;

const EMPTY: Content = { size: 0, hash: hash("sha256", "", "buffer"), chunks: new Uint8Array(), pieces: [] };
const scratch = Buffer.allocUnsafeSlow(WHOLE_BYTES + 1);

/** Never through a link, and without waiting for the other end of a FIFO that took the file's place. */
export function openForRead(file: Buffer): number {
  return fs.openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

/**
 * Reads a file of at most WHOLE_BYTES. `seen` is what lstat said just before: the same after the read means that this was
 * one version, from beginning to end.
 */
export function readWhole(file: Buffer, seen: BigIntStats, names: ContentNames): WholeRead {
  if (seen.size === 0n) return { kind: "content", content: EMPTY };
  let fd: number | undefined;
  try {
    fd = openForRead(file);
    return standsAt(fd, file) ? readOpen(fd, seen, names) : { kind: "changed" };
  } catch (error) {
    return unread(error);
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

/** The same of a file that was deleted, by a descriptor that names it. */
export function readDeleted(fd: number, seen: BigIntStats, names: ContentNames): WholeRead {
  try {
    const open = fs.openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return readOpen(open, seen, names);
    } finally {
      fs.closeSync(open);
    }
  } catch (error) {
    return unread(error);
  }
}

function readOpen(fd: number, seen: BigIntStats, names: ContentNames): WholeRead {
  const size = Number(seen.size);
  // A byte more than there should be shows a file that grew.
  const bytes = fs.readSync(fd, scratch, 0, size + 1, 0);
  if (bytes !== size || !sameStat(seen, fs.fstatSync(fd, { bigint: true }))) return { kind: "changed" };
  return { kind: "content", content: size === 0 ? EMPTY : contentOf(scratch.subarray(0, size), names) };
}

/** What a failed call means for what is to be read. */
export function unread(error: unknown): Unread {
  const errno = errnoOf(error);
  // Gone, a link, a socket: something else stands there by now.
  const isOther = errno === "ENOENT" || errno === "ENOTDIR" || errno === "ELOOP" || errno === "ENXIO";
  return isOther ? { kind: "changed" } : { kind: "unreadable", error };
}

/** Content that the log has is not kept. */
export function unlessKnown(content: Content, names: Pick<ContentNames, "knows">): Content {
  if (!names.knows(byteString(content.chunks.subarray(0, CONTENT_ID_BYTES)))) return content;
  const { inline: _, ...known } = content;
  return known;
}

function contentOf(data: Buffer, names: ContentNames): Content {
  const { nameKey } = names;
  const whole = hash("sha256", data, "buffer");
  if (data.length <= INLINE_BYTES) {
    const id = nameKey ? contentId(data, nameKey) : byteString(whole);
    const base = { size: data.length, hash: whole, chunks: encodeChunks([{ id, size: data.length }]), pieces: [] };
    return names.knows(id) ? base : { ...base, inline: Buffer.from(data) };
  }
  const chunks: { id: ByteString; size: number }[] = [];
  const pieces: { id: ByteString; data: Uint8Array }[] = [];
  for (let at = 0; at < data.length;) {
    const piece = data.subarray(at, at + chunkLength(data, at, data.length));
    const id = contentId(piece, nameKey);
    chunks.push({ id, size: piece.length });
    if (!names.knows(id)) pieces.push({ id, data: Buffer.from(piece) });
    at += piece.length;
  }
  return { size: data.length, hash: whole, chunks: encodeChunks(chunks), pieces };
}
