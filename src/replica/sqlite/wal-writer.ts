import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { endianness } from "node:os";
import { dirname } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { promisify } from "node:util";

import Database from "better-sqlite3";

import type { WalIndexHeader } from "../../format/wal-index.ts";
import { decodeWalHeader, encodeWalHeader, frameByteOffset, WAL_HEADER_BYTES } from "../../format/wal.ts";
import { sleep, type Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { syncDirectory } from "../../runtime/durable-directory.ts";
import { errnoOf } from "../../runtime/errors.ts";
import { invariant } from "../../runtime/invariant.ts";
import type { FrameRange } from "../../sqlite/committed-pages.ts";
import { LiveFiles } from "../../sqlite/live-files.ts";
import { diverged, locked, written } from "../standby-errors.ts";
import { writeFrames, type PageSource, type WalEnd } from "./frame-writer.ts";
import { StandingPages } from "./standing-pages.ts";
import { appendEntries, publishHeader } from "./wal-index-writer.ts";
import { readUpTo, writeFully } from "../../sqlite/write-fully.ts";

const fsync = promisify(fs.fsync);

/** How long the write lock is waited for in one try. Only a stranger's writer or checkpoint can hold it. */
const LOCK_WAIT_MS = 2000;
const LOCK_SPINS = 200;
/** encodeWalHeader uses the host's own byte order for checksums. */
const HOST_BIG_ENDIAN = endianness() === "BE";

export interface WalWriterOptions {
  readonly path: string;
  readonly pageSize: number;
  readonly clock: Clock;
}

/** What readers see at one moment: see readCommittedPages. */
export interface StandbySnapshot {
  readonly frames: FrameRange;
  readonly sizePages: number;
}

/**
 * Appends commits of page images to a standby database as one more SQLite writer would, so that other processes may
 * read it meanwhile. After SQLite's walFrames, walIndexAppend, walCleanupHash and walIndexWriteHdr; the lock, recovery
 * and checkpoints are SQLite's own, through a connection of ours.
 */
export class WalWriter {
  readonly path: string;
  readonly pageSize: number;
  readonly files: LiveFiles;
  readonly #connection: Database.Database;
  readonly #begin: Database.Statement;
  readonly #lock: Database.Statement;
  readonly #unlock: Database.Statement;
  readonly #read: Database.Statement;
  readonly #clock: Clock;
  /** What the wal-index said after our last append (or as our check of the pages began): anything else was a stranger. */
  #expected: WalIndexHeader | undefined;
  #checkpointSequence = 0;
  readonly #standing = new Set<StandingPages>();

  constructor(options: WalWriterOptions) {
    this.path = options.path;
    this.pageSize = options.pageSize;
    this.#clock = options.clock;
    this.#connection = openStandby(options.path);
    try {
      this.#begin = this.#connection.prepare("BEGIN");
      this.#lock = this.#connection.prepare("BEGIN IMMEDIATE");
      this.#unlock = this.#connection.prepare("COMMIT");
      // Reads page 1 and needs no schema. The first read recovers the WAL and makes sure that -shm exists.
      this.#read = this.#connection.prepare("PRAGMA schema_version").pluck();
      this.#read.get();
      if (!isInWalMode(this.#connection)) throw diverged(options.path, NOT_IN_WAL_MODE);
      // SQLite syncs the name of a new -wal with its own first fsync of it, and the frames in it are ours.
      syncDirectory(dirname(options.path));
      this.files = new LiveFiles(options.path, "r+");
      crashPoint("standby: opened");
    } catch (error) {
      this.#connection.close();
      throw error;
    }
    this.#checkpointSequence = storedSequence(this.files.walFd);
  }

  /** Bytes of the WAL that hold committed frames. */
  get walBytes(): number {
    const frames = this.files.readWalIndex()?.header.mxFrame ?? 0;
    return frames === 0 ? 0 : frameByteOffset(frames + 1, this.pageSize);
  }

  /**
   * Appends one commit. Either all of it is visible to readers afterwards, or, when it throws, nothing is.
   * @throws STANDBY_WRITTEN, DATABASE_BUSY (the lock was not to be had), DISK_FULL or IO through the system's error
   */
  async append(pages: PageSource, sizePages: number): Promise<void> {
    await this.#takeLock();
    try {
      const header = this.#ownHeader();
      const pageNumbers = pages.pageNumbers();
      invariant(pageNumbers.length > 0, "a commit without pages");
      const end = header.mxFrame === 0 ? this.#startWal(header) : walEnd(header, this.pageSize);
      const frameChecksum = await writeFrames(this.files.walFd, end, { pageNumbers, pages, sizePages });
      appendEntries(this.files.shmFd, end.mxFrame, pageNumbers);
      const published: WalIndexHeader = {
        changeCounter: (header.changeCounter + 1) >>> 0,
        bigEndianChecksums: end.bigEndian,
        pageSize: this.pageSize,
        mxFrame: end.mxFrame + pageNumbers.length,
        sizePages,
        frameChecksum,
        salt1: end.salt1,
        salt2: end.salt2,
      };
      publishHeader(this.files.shmFd, published);
      this.#expected = published;
    } finally {
      // Our connection has no dirty page, so this only gives the lock back.
      this.#unlock.run();
    }
    crashPoint("append: unlocked");
    // Sets a read mark to the new frame, for readers that may not write one themselves.
    this.#read.get();
  }

  /** Tries to empty the WAL. Returns false when readers are in the way: try again. */
  checkpoint(): boolean {
    this.requireUntouched();
    try {
      const rows: unknown = this.#connection.pragma("wal_checkpoint(TRUNCATE)");
      const [row] = rows as { busy: number }[];
      crashPoint("standby: checkpointed");
      return row?.busy === 0;
    } catch (error) {
      if (isBusy(error)) return false;
      throw error;
    }
  }

  /** Makes everything appended so far survive a power cut. Runs off the main thread. */
  async sync(): Promise<void> {
    await fsync(this.files.walFd);
  }

  /** @throws STANDBY_WRITTEN when somebody else committed since our last append, or put another file in its place */
  requireUntouched(): void {
    const inPlace = fs.statSync(this.path, { throwIfNoEntry: false })?.ino;
    if (inPlace !== fs.fstatSync(this.files.databaseFd).ino)
      throw written(this.path, "its file was replaced or deleted");
    const header = this.files.readWalIndex()?.header;
    if (header) this.#requireOwn(header);
  }

  /**
   * Runs `look` in a read transaction, so that what it reads stands still. Not while an append is under way. When nothing
   * was appended yet, what is looked at is what later appends build on: its pages are being compared with the log's.
   * @throws STANDBY_WRITTEN
   */
  look<T>(look: (seen: StandbySnapshot) => T): T {
    this.#begin.run();
    try {
      this.#read.get();
      const state = this.files.readWalIndex();
      invariant(state, "no valid wal-index header while a read transaction is open");
      const { header, checkpoint } = state;
      this.#expected ??= header;
      this.#requireOwn(header);
      // 0 right after a recovery that found no commit: then the file itself is the size.
      const sizePages = header.sizePages || Math.floor(fs.fstatSync(this.files.databaseFd).size / this.pageSize);
      return look({ frames: { after: checkpoint.backfilledFrames, through: header.mxFrame }, sizePages });
    } finally {
      this.#unlock.run();
    }
  }

  /**
   * What readers see now, to be read while more is appended. It ends with the writer at the latest.
   * @throws STANDBY_WRITTEN
   */
  stand(): StandingPages {
    const connection = openStandby(this.path);
    try {
      connection.exec("BEGIN");
      connection.pragma("schema_version");
      // Nobody but us appends, and we do not in between: what is looked at is what the connection holds.
      const { files, pageSize } = this;
      const onEnd = (ended: StandingPages): unknown => this.#standing.delete(ended);
      const standing = this.look((seen) => new StandingPages({ connection, files, pageSize, seen, onEnd }));
      this.#standing.add(standing);
      return standing;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** Ends what `stand` began: the WAL must be emptied, which it prevents. */
  letGo(): void {
    for (const standing of this.#standing) standing[Symbol.dispose]();
  }

  close(): void {
    this.letGo();
    this.#connection.close();
    this.files.close();
  }

  #ownHeader(): WalIndexHeader {
    const header = this.files.readWalIndex()?.header;
    // Taking the lock made SQLite read the header, or rebuild it.
    invariant(header, "no valid wal-index header under the write lock");
    this.#requireOwn(header);
    if (header.mxFrame === 0 || header.pageSize === this.pageSize) return header;
    throw written(this.path, `its page size is ${header.pageSize}, not ${this.pageSize}`);
  }

  /** A checkpoint, by whomever, empties the WAL and keeps the change counter; recovery keeps the frames. */
  #requireOwn(found: WalIndexHeader): void {
    const expected = this.#expected;
    if (!expected) return;
    const sameFrames =
      found.mxFrame === expected.mxFrame &&
      found.salt1 === expected.salt1 &&
      found.salt2 === expected.salt2 &&
      found.frameChecksum.c1 === expected.frameChecksum.c1 &&
      found.frameChecksum.c2 === expected.frameChecksum.c2;
    const emptied = found.mxFrame === 0 && found.changeCounter === expected.changeCounter;
    if (sameFrames || emptied) return;
    throw written(
      this.path,
      `its wal-index is at commit ${found.changeCounter}, frame ${found.mxFrame}; ours was ${expected.changeCounter}, frame ${expected.mxFrame}`,
    );
  }

  /** First frames of a WAL: salts as the last checkpoint left them in the wal-index, random ones in a new WAL. */
  #startWal(header: WalIndexHeader): WalEnd {
    const fresh = header.salt1 === 0 && header.salt2 === 0;
    const random = new DataView(Uint8Array.from(randomBytes(8)).buffer);
    const salt1 = fresh ? random.getUint32(0) : header.salt1;
    const salt2 = fresh ? random.getUint32(4) : header.salt2;
    const { pageSize } = this;
    this.#checkpointSequence = (this.#checkpointSequence + 1) >>> 0;
    const encoded = encodeWalHeader({ pageSize, checkpointSequence: this.#checkpointSequence, salt1, salt2 });
    writeFully(this.files.walFd, encoded.bytes, 0);
    // Before any frame: frames of the last round must not be taken for this one's after a power cut.
    fs.fsyncSync(this.files.walFd);
    crashPoint("append: wal header");
    return { pageSize, mxFrame: 0, salt1, salt2, checksum: encoded.checksum, bigEndian: HOST_BIG_ENDIAN };
  }

  async #takeLock(): Promise<void> {
    const deadline = this.#clock.monotonic() + LOCK_WAIT_MS;
    for (let spin = 0; ; spin += 1) {
      try {
        this.#lock.run();
        return;
      } catch (error) {
        if (!isBusy(error)) throw error;
        if (this.#clock.monotonic() > deadline) throw locked(this.path, error);
      }
      await (spin < LOCK_SPINS ? nextTurn() : sleep(2));
    }
  }
}

/** A standby always is: page 1 of the primary says so. An empty file is not. */
export function isInWalMode(connection: Database.Database): boolean {
  return connection.pragma("journal_mode", { simple: true }) === "wal";
}

export const NOT_IN_WAL_MODE = "it was emptied, or taken out of WAL mode";

/** A connection that never waits inside a call and never checkpoints on its own. */
export function openStandby(path: string): Database.Database {
  const connection = new Database(path, { fileMustExist: true, timeout: 0 });
  connection.pragma("wal_autocheckpoint=0");
  return connection;
}

function walEnd(header: WalIndexHeader, pageSize: number): WalEnd {
  return {
    pageSize,
    mxFrame: header.mxFrame,
    salt1: header.salt1,
    salt2: header.salt2,
    checksum: header.frameChecksum,
    bigEndian: header.bigEndianChecksums,
  };
}

function storedSequence(walFd: number): number {
  const bytes = new Uint8Array(WAL_HEADER_BYTES);
  const length = readUpTo(walFd, bytes, 0);
  return decodeWalHeader(bytes.subarray(0, length))?.checkpointSequence ?? 0;
}

export function isBusy(error: unknown): boolean {
  return errnoOf(error)?.startsWith("SQLITE_BUSY") === true;
}
