import fs from "node:fs";

import type { WalIndexState } from "../../sqlite/live-files.ts";
import { LiveFiles } from "../../sqlite/live-files.ts";
import { errnoOf, TidemarkError } from "../../runtime/errors.ts";
import { invariant } from "../../runtime/invariant.ts";
import { Pin } from "./pin.ts";

/**
 * The user's database as capture holds it: two connections for pins, raw descriptors on the three files.
 * Writes nothing. Connections are opened before the descriptors and closed before them (see LiveFiles).
 */
export class SourceDatabase {
  readonly path: string;
  readonly files: LiveFiles;
  #current: Pin;
  #spare: Pin;
  readonly #identity: string;
  /** Whether the current pin holds read lock 0, where it disturbs nobody. */
  #onLockZero = false;

  /** Opens and pins. @throws DATABASE_EXCLUSIVE, DATABASE_BUSY, DATABASE_CORRUPT */
  constructor(databasePath: string) {
    this.path = databasePath;
    this.#current = new Pin(databasePath);
    try {
      this.#current.acquire();
      this.#spare = new Pin(databasePath);
      this.#spare.acquire();
      this.#spare.release();
      this.files = new LiveFiles(databasePath, "r");
    } catch (error) {
      this.#current.close();
      throw explainBusy(databasePath, error);
    }
    this.#identity = identityOf(databasePath);
  }

  get pinned(): boolean {
    return this.#current.held;
  }

  get onLockZero(): boolean {
    return this.#current.held && this.#onLockZero;
  }

  /** @throws DATABASE_BUSY when the header cannot be read now (a writer died between its two copies) */
  walIndex(): WalIndexState {
    const state = this.files.readWalIndex();
    if (state) return state;
    throw new TidemarkError("DATABASE_BUSY", `the wal-index of ${this.path} has no valid header`, {
      hint: "Nothing to do: it is read again, and rebuilt by the next connection.",
    });
  }

  /**
   * Takes the next pin, lets `capture` read every frame up to the header that is there then, and ends the old pin.
   * The old pin protects the frames until they are read. When `capture` throws both pins stay: nothing is let go.
   */
  async handOver(capture: (state: WalIndexState) => Promise<void>): Promise<void> {
    const lockZero = this.#acquire(this.#spare);
    try {
      await capture(this.walIndex());
    } catch (error) {
      this.#spare.release();
      throw error;
    }
    this.#current.release();
    [this.#current, this.#spare] = [this.#spare, this.#current];
    this.#onLockZero = lockZero;
  }

  /** Pins again after `letGo`. */
  pin(): void {
    invariant(!this.#current.held, "pinned twice");
    this.#onLockZero = this.#acquire(this.#current);
  }

  /** Ends the pin: the WAL may now restart unseen, and the commit count must decide whether it did. */
  letGo(): void {
    this.#current.release();
    this.#spare.release();
    this.#onLockZero = false;
  }

  /**
   * Whether the pin landed on read lock 0: it does when all frames are in the database file as the snapshot is
   * taken. Known only when nothing moved meanwhile; "no" when in doubt, which merely costs another hand-over.
   */
  #acquire(pin: Pin): boolean {
    const before = this.files.readWalIndex();
    pin.acquire();
    const after = this.files.readWalIndex();
    return (
      before !== undefined &&
      after !== undefined &&
      before.header.mxFrame === before.checkpoint.backfilledFrames &&
      before.header.mxFrame === after.header.mxFrame &&
      before.header.salt1 === after.header.salt1 &&
      before.header.changeCounter === after.header.changeCounter
    );
  }

  /** @throws DATABASE_REPLACED, DATABASE_MISSING when the path leads to other files than the ones held open */
  checkIdentity(): void {
    if (identityOf(this.path) === this.#identity) return;
    if (!fs.existsSync(this.path)) {
      throw new TidemarkError("DATABASE_MISSING", `${this.path} was deleted`, {
        hint: "Capture goes on when the application makes it anew; the standby keeps the last state.",
      });
    }
    throw new TidemarkError("DATABASE_REPLACED", `${this.path}, its -wal or its -shm was replaced by another file`, {
      hint: "Nothing to do: the new file is opened and the difference is shipped.",
    });
  }

  close(): void {
    this.#spare.close();
    this.#current.close();
    this.files.close();
  }
}

/** Device and inode of the database and its two companions. */
function identityOf(databasePath: string): string {
  return ["", "-wal", "-shm"]
    .map((suffix) => {
      const stat = fs.statSync(databasePath + suffix, { throwIfNoEntry: false });
      return stat ? `${stat.dev}:${stat.ino}` : "none";
    })
    .join(" ");
}

/** A first read that is refused at once means that the app holds the database for itself. */
function explainBusy(databasePath: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno?.startsWith("SQLITE_BUSY")) {
    return new TidemarkError("DATABASE_EXCLUSIVE", `${databasePath} is locked by its application`, {
      hint: "Remove `PRAGMA locking_mode=EXCLUSIVE` from the application; capture goes on as soon as it can read.",
      cause: error,
    });
  }
  if (errno === "SQLITE_CORRUPT" || errno === "SQLITE_NOTADB") {
    return new TidemarkError("DATABASE_CORRUPT", `${databasePath}: ${String(error)}`, {
      hint: "Run `PRAGMA integrity_check`; restore it from the standby or an earlier offset with `tidemark restore`.",
      cause: error,
    });
  }
  return error;
}
