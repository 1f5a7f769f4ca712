import fs from "node:fs";

import { decodeWalIndexHeader, WAL_INDEX_HEADER_BYTES, type WalIndexHeader } from "../../format/wal-index.ts";
import { errnoOf } from "../../runtime/errors.ts";

/** Longer than a tick of the kernel's clock: a write after this long has another time than the one seen. */
const CLOCK_TICK_MS = 100;

/**
 * What can be seen of a database without opening it. Every commit appends to the WAL (its times and size), counts the
 * wal-index up (its header), and what empties or deletes the WAL writes to the database (its times and size).
 */
export interface FileLook {
  /** Undefined when it is not there. */
  readonly database: string | undefined;
  readonly wal: string | undefined;
  /** First header copy of the wal-index, or why there is none. */
  readonly walIndex: string;
  readonly header: WalIndexHeader | undefined;
  /** Whether everything seen is old enough for a later write to show. */
  readonly aged: boolean;
}

/**
 * Opens and closes `-shm`, which drops this process's locks on it: only while this process has no connection to the database.
 */
export function lookAtFiles(databasePath: string, nowMs: number): FileLook {
  const database = stampOf(databasePath);
  const wal = stampOf(`${databasePath}-wal`);
  const { walIndex, header } = readWalIndex(`${databasePath}-shm`);
  return { database: database?.stamp, wal: wal?.stamp, walIndex, header, aged: isAged(database, nowMs) };
}

/** Whether nothing can have been committed between two looks. */
export function isUnmoved(before: FileLook, now: FileLook): boolean {
  const same = before.database === now.database && before.wal === now.wal && before.walIndex === now.walIndex;
  return same && (before.aged || before.header !== undefined);
}

/** What tells one state of the database file from the next; undefined when a write right now would not show. */
export function agedStamp(databasePath: string, nowMs: number): string | undefined {
  const stamp = stampOf(databasePath);
  return isAged(stamp, nowMs) ? stamp?.stamp : undefined;
}

/** Times in the future mean that the clock was set back: what is written from now on has others. */
function isAged(stamp: Stamp | undefined, nowMs: number): boolean {
  return Math.abs(nowMs - (stamp?.changedMs ?? 0)) > CLOCK_TICK_MS;
}

interface Stamp {
  readonly stamp: string;
  readonly changedMs: number;
}

/** What cannot be looked at looks different from anything that can: opening it then tells why. */
function stampOf(file: string): Stamp | undefined {
  let stat;
  try {
    stat = fs.statSync(file, { throwIfNoEntry: false, bigint: true });
  } catch (error) {
    return { stamp: errnoOf(error) ?? String(error), changedMs: NaN };
  }
  if (!stat) return undefined;
  const { dev, ino, birthtimeNs, size, mtimeNs, ctimeNs } = stat;
  return { stamp: [dev, ino, birthtimeNs, size, mtimeNs, ctimeNs].join(":"), changedMs: Number(ctimeNs / 1_000_000n) };
}

function readWalIndex(file: string): Pick<FileLook, "walIndex" | "header"> {
  let fd: number | undefined;
  try {
    fd = fs.openSync(file, "r");
    const bytes = new Uint8Array(WAL_INDEX_HEADER_BYTES);
    const length = fs.readSync(fd, bytes, 0, bytes.length, 0);
    const header = length === bytes.length ? decodeWalIndexHeader(bytes) : undefined;
    // Of the checkpoint information behind the header nothing says whether something was committed.
    return { walIndex: Buffer.from(bytes.subarray(0, HEADER_COPIES_BYTES)).toString("latin1"), header };
  } catch (error) {
    return { walIndex: errnoOf(error) ?? String(error), header: undefined };
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

/** Two copies of 48 bytes. */
const HEADER_COPIES_BYTES = 96;
