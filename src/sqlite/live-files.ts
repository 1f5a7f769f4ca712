import fs from "node:fs";

import {
  decodeCheckpointInfo,
  decodeWalIndexHeader,
  WAL_INDEX_HEADER_BYTES,
  type CheckpointInfo,
  type WalIndexHeader,
} from "../format/wal-index.ts";

/** Wal-index header and checkpoint information from one read. */
export interface WalIndexState {
  readonly header: WalIndexHeader;
  readonly checkpoint: CheckpointInfo;
}

const HEADER_READ_TRIES = 50;

/**
 * Raw descriptors on a database that SQLite connections of this process have open as well.
 *
 * POSIX drops all locks of the process on a file when *any* descriptor on it is closed. So the descriptors on the
 * database and its `-shm` live as long as the connections: open a LiveFiles after the first connection has read once
 * (so that `-shm` exists and stays), and close it only after the last connection of this process is closed.
 * `-wal` carries no locks.
 */
export class LiveFiles {
  readonly path: string;
  readonly databaseFd: number;
  readonly walFd: number;
  readonly shmFd: number;
  readonly #headerBytes = Buffer.alloc(WAL_INDEX_HEADER_BYTES);
  /** What was read last, and what it says: mostly nothing has changed. */
  readonly #lastBytes = Buffer.alloc(WAL_INDEX_HEADER_BYTES);
  #lastState: WalIndexState | undefined;

  /**
   * @param mode "r" for a primary, "r+" for the standby's WAL writer. When it throws, the connections of this process have
   * lost their locks: close them.
   */
  constructor(path: string, mode: "r" | "r+") {
    this.path = path;
    const opened: number[] = [];
    const open = (file: string, flags: "r" | "r+"): number => {
      const fd = fs.openSync(file, flags);
      opened.push(fd);
      return fd;
    };
    try {
      this.databaseFd = open(path, "r");
      this.walFd = open(`${path}-wal`, mode);
      this.shmFd = open(`${path}-shm`, mode);
    } catch (error) {
      // It is tried again and again: with too many files open already, each try would take some for good.
      for (const fd of opened) fs.closeSync(fd);
      throw error;
    }
  }

  /**
   * The committed state. Undefined when no valid header was seen in several tries: a writer died between its two
   * writes and the next reader through SQLite rebuilds the wal-index, or it was never initialised.
   */
  readWalIndex(): WalIndexState | undefined {
    for (let attempt = 0; attempt < HEADER_READ_TRIES; attempt += 1) {
      const length = fs.readSync(this.shmFd, this.#headerBytes, 0, WAL_INDEX_HEADER_BYTES, 0);
      if (length < WAL_INDEX_HEADER_BYTES) return undefined;
      if (this.#lastState && this.#headerBytes.equals(this.#lastBytes)) return this.#lastState;
      const header = decodeWalIndexHeader(this.#headerBytes);
      if (!header) continue;
      this.#lastState = { header, checkpoint: decodeCheckpointInfo(this.#headerBytes) };
      this.#headerBytes.copy(this.#lastBytes);
      return this.#lastState;
    }
    return undefined;
  }

  /** Only after the last connection of this process on this database is closed. */
  close(): void {
    fs.closeSync(this.walFd);
    fs.closeSync(this.shmFd);
    fs.closeSync(this.databaseFd);
  }
}
