import fs from "node:fs";
import { parentPort } from "node:worker_threads";

import type Database from "better-sqlite3";

import type { WalPosition } from "../../event/kinds.ts";
import { decodeWalIndexHeader, WAL_INDEX_HEADER_BYTES } from "../../format/wal-index.ts";
import { errnoOf } from "../../runtime/errors.ts";
import { invariant } from "../../runtime/invariant.ts";
import { othersHoldLocks } from "./lock-table.ts";
import { openQuietly } from "./pin.ts";
import { WalTail } from "./wal-tail.ts";

/**
 * Checkpoints and the write lock, off the main thread: both can take milliseconds to tens of them.
 * A checkpoint cannot run inside a transaction of its own connection, hence two connections a database.
 */
export type CheckpointRequest =
  | { readonly id: number; readonly kind: "passive" | "unlock" | "close"; readonly path: string }
  | { readonly id: number; readonly kind: "truncate"; readonly path: string; readonly shmFd: number }
  | { readonly id: number; readonly kind: "sync"; readonly fds: readonly number[] }
  | { readonly id: number; readonly kind: "pin"; readonly path: string }
  | ({ readonly id: number; readonly kind: "await-restart" } & RestartRequest)
  | { readonly id: number; readonly kind: "lock"; readonly path: string; readonly maxMs: number };

export interface RestartRequest {
  readonly path: string;
  readonly shmFd: number;
  readonly walFd: number;
  /** Everything up to here is captured. */
  readonly position: WalPosition;
  readonly pageSize: number;
  readonly maxMs: number;
}

/** PASSIVE: whether another checkpoint was running, frames in the WAL and frames now in the database file. */
export interface PassiveResult {
  readonly busy: boolean;
  readonly walFrames: number;
  readonly backfilledFrames: number;
}

/** Frames of the generation before. */
export type Tail = Uint8Array<ArrayBuffer>;

export type CheckpointValue = PassiveResult | Tail | boolean;

export type CheckpointReply =
  | { readonly id: number; readonly ok: true; readonly value: CheckpointValue }
  | { readonly id: number; readonly ok: false; readonly message: string };

interface Connections {
  readonly checkpoint: Database.Database;
  readonly lock: Database.Database;
}

const open = new Map<string, Connections>();
/** Nobody notifies it: a sleep that blocks the thread. */
const nobody = new Int32Array(new SharedArrayBuffer(4));
const LOOK_MS = 0.1;
const walIndex = new Uint8Array(WAL_INDEX_HEADER_BYTES);

function connectionsOf(path: string): Connections {
  const known = open.get(path);
  if (known) return known;
  const fresh = { checkpoint: openQuietly(path), lock: openQuietly(path) };
  // A connection that has not read does not keep the app's last close from deleting the WAL.
  for (const connection of Object.values(fresh)) connection.pragma("schema_version");
  open.set(path, fresh);
  return fresh;
}

function checkpoint(path: string, mode: "PASSIVE" | "TRUNCATE"): PassiveResult {
  const rows = connectionsOf(path).checkpoint.pragma(`wal_checkpoint(${mode})`);
  invariant(Array.isArray(rows), "wal_checkpoint returns rows");
  const [row] = rows as { busy: number; log: number; checkpointed: number }[];
  invariant(row, "wal_checkpoint returns one row");
  return { busy: row.busy !== 0, walFrames: row.log, backfilledFrames: row.checkpointed };
}

/** Spins with a timeout of 0: a busy writer leaves gaps of microseconds, which SQLite's own back-off sleeps through. */
function lock(path: string, maxMs: number): boolean {
  const connection = connectionsOf(path).lock;
  const until = performance.now() + maxMs;
  for (;;) {
    try {
      connection.exec("BEGIN IMMEDIATE");
      return true;
    } catch (error) {
      if (!errnoOf(error)?.startsWith("SQLITE_BUSY") || performance.now() >= until) {
        if (errnoOf(error)?.startsWith("SQLITE_BUSY")) return false;
        throw error;
      }
    }
  }
}

/** Holds a snapshot on the connection that otherwise takes the write lock; `unlock` ends it. */
function pin(path: string): true {
  const connection = connectionsOf(path).lock;
  connection.exec("BEGIN");
  connection.pragma("schema_version");
  return true;
}

/**
 * Lets go of the pin until the WAL has restarted, and takes the next one at once. Meanwhile everything that is committed is
 * read: the checkpoint before a restart takes longer than the pause between two looks. Here nothing comes between, while
 * the main thread may be busy until the new generation has written over it.
 */
function awaitRestart({ path, shmFd, walFd, position, pageSize, maxMs }: RestartRequest): Tail | false {
  const { salt1, salt2 } = position;
  const tail = new WalTail(walFd, position, pageSize);
  const until = performance.now() + maxMs;
  unlock(path);
  let restarted = false;
  for (let room = true; room && !restarted && performance.now() < until;) {
    Atomics.wait(nobody, 0, 0, LOOK_MS);
    fs.readSync(shmFd, walIndex, 0, walIndex.length, 0);
    const header = decodeWalIndexHeader(walIndex);
    restarted = header !== undefined && (header.salt1 !== salt1 || header.salt2 !== salt2);
    if (header && !restarted) room = tail.readTo(header.mxFrame);
  }
  pin(path);
  tail.readRest();
  return restarted && tail.take();
}

function unlock(path: string): boolean {
  const connection = connectionsOf(path).lock;
  if (connection.inTransaction) connection.exec("ROLLBACK");
  return true;
}

function close(path: string): boolean {
  const connections = open.get(path);
  open.delete(path);
  connections?.lock.close();
  connections?.checkpoint.close();
  return true;
}

function carryOut(request: CheckpointRequest): CheckpointValue {
  switch (request.kind) {
    case "passive":
      return checkpoint(request.path, "PASSIVE");
    case "truncate":
      // Connections first, then the look, then nothing in between: whoever comes has the least of gaps to come through.
      connectionsOf(request.path);
      return othersHoldLocks(request.shmFd, { now: true }) === false && !checkpoint(request.path, "TRUNCATE").busy;
    case "sync":
      for (const fd of request.fds) fs.fsyncSync(fd);
      return true;
    case "lock":
      return lock(request.path, request.maxMs);
    case "pin":
      return pin(request.path);
    case "await-restart":
      return awaitRestart(request);
    case "unlock":
      return unlock(request.path);
    case "close":
      return close(request.path);
    default:
      return request satisfies never;
  }
}

parentPort?.on("message", (request: CheckpointRequest) => {
  let reply: CheckpointReply;
  try {
    reply = { id: request.id, ok: true, value: carryOut(request) };
  } catch (error) {
    reply = { id: request.id, ok: false, message: String(error) };
  }
  const transfer = reply.ok && reply.value instanceof Uint8Array ? [reply.value.buffer] : [];
  parentPort?.postMessage(reply, transfer);
});
