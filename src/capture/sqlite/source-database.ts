import fs from "node:fs";

import type { WalIndexState } from "../../sqlite/live-files.ts";
import { LiveFiles } from "../../sqlite/live-files.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { errnoOf, TidemarkError } from "../../runtime/errors.ts";
import { invariant } from "../../runtime/invariant.ts";
import { holdsReadMark } from "./lock-table.ts";
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
  /** Device, inode and time of birth of the database file: a file put in its place is another one. */
  readonly file: string;
  readonly #companions: readonly (string | undefined)[];
  /** Where the pin is: on read lock 0 it disturbs nobody. */
  #pinOn: "read mark" | "lock 0, it seems" | "lock 0" = "read mark";
  #pinnedAtMs = 0;
  #fileState: FileState | undefined;
  #pinnedFrame = 0;

  /** Opens and pins. @throws DATABASE_EXCLUSIVE, DATABASE_BUSY, DATABASE_CORRUPT */
  constructor(databasePath: string) {
    this.path = databasePath;
    this.#current = new Pin(databasePath);
    let spare: Pin | undefined;
    try {
      this.#current.slim();
      this.#current.acquire();
      spare = new Pin(databasePath);
      spare.slim();
      spare.acquire();
      spare.release();
      this.files = new LiveFiles(databasePath, "r");
    } catch (error) {
      spare?.close();
      this.#current.close();
      throw explainBusy(databasePath, error);
    }
    this.#spare = spare;
    this.file = identityOf(databasePath) ?? "none";
    this.#companions = COMPANIONS.map((suffix) => identityOf(databasePath + suffix));
  }

  get pinned(): boolean {
    return this.#current.held;
  }

  /** The pin keeps the frames after this one, or some later one, from going into the database file. */
  get pinnedFrame(): number {
    return this.#pinnedFrame;
  }

  get onLockZero(): boolean {
    return this.#current.held && this.#pinOn === "lock 0";
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
    const pinOn = this.#acquire(this.#spare);
    crashPoint("pin: next taken");
    try {
      await capture(this.walIndex());
      crashPoint("pin: captured under both");
    } catch (error) {
      this.#spare.release();
      throw error;
    }
    this.#current.release();
    [this.#current, this.#spare] = [this.#spare, this.#current];
    this.#pinOn = pinOn;
    crashPoint("pin: handed over");
  }

  /**
   * With everything in the database file: one step on the way to read lock 0. A pin that seems to have landed there may be
   * at a read mark after all, and as nothing moves any more it would stay there, in the way of every TRUNCATE: a
   * checkpointer says that all is backfilled before it gives lock 0 back, and may be held up in between. The kernel knows.
   */
  async landOnLockZero(capture: (state: WalIndexState) => Promise<void>): Promise<void> {
    if (this.#pinOn === "read mark") return this.handOver(capture);
    const atMark = holdsReadMark(this.files.shmFd, this.#pinnedAtMs);
    if (atMark === "later") return;
    // Where the kernel cannot be asked, a second pin makes it likely.
    if (atMark === undefined) await this.handOver(capture);
    if (atMark === true) this.#pinOn = "read mark";
    if (this.#pinOn === "lock 0, it seems") this.#pinOn = "lock 0";
  }

  /** Pins again after `letGo`. */
  pin(): void {
    invariant(!this.#current.held, "pinned twice");
    this.#pinOn = this.#acquire(this.#current);
    crashPoint("pin: taken again");
  }

  /** Ends the pin: the WAL may now restart unseen, and the commit count must decide whether it did. */
  letGo(): void {
    this.#current.release();
    this.#spare.release();
    this.#pinOn = "read mark";
    crashPoint("pin: let go");
  }

  /**
   * A pin lands on read lock 0 when all frames are in the database file as the snapshot is taken. Known only when
   * nothing moved meanwhile; a read mark when in doubt, which merely costs another hand-over.
   */
  #acquire(pin: Pin): "read mark" | "lock 0, it seems" {
    const before = this.files.readWalIndex();
    pin.acquire();
    const after = this.files.readWalIndex();
    this.#pinnedFrame = before?.header.mxFrame ?? 0;
    this.#pinnedAtMs = performance.now();
    const allBackfilled =
      before !== undefined &&
      after !== undefined &&
      before.header.mxFrame === before.checkpoint.backfilledFrames &&
      before.header.mxFrame === after.header.mxFrame &&
      before.header.salt1 === after.header.salt1 &&
      before.header.changeCounter === after.header.changeCounter;
    return allBackfilled ? "lock 0, it seems" : "read mark";
  }

  /**
   * Whether the path still leads to the files that are held open. A `-wal` or `-shm` that was merely deleted is still
   * the app's, which has it open as we do: capture goes on in it, and leaves checkpoints to the app.
   * @throws DATABASE_MISSING, DATABASE_REPLACED
   */
  checkIdentity(): "whole" | "companion deleted" {
    const file = identityOf(this.path);
    if (file === undefined) {
      throw new TidemarkError("DATABASE_MISSING", `${this.path} was deleted`, {
        hint: "Capture goes on when the application makes it anew; the standby keeps the last state.",
      });
    }
    const companions = COMPANIONS.map((suffix) => identityOf(this.path + suffix));
    if (file !== this.file || companions.some((found, i) => found !== undefined && found !== this.#companions[i])) {
      throw new TidemarkError("DATABASE_REPLACED", `${this.path}, its -wal or its -shm was replaced by another file`, {
        hint: "Stop Tidemark before replacing a database. Now the new file is opened and the difference is shipped.",
      });
    }
    return companions.includes(undefined) ? "companion deleted" : "whole";
  }

  /**
   * Whether the database file was written since the last call although no checkpoint ran: somebody copied another
   * database over it. A false alarm costs one comparison of all pages.
   */
  writtenAround(): boolean {
    const before = this.files.readWalIndex();
    const { mtimeNs, size } = fs.fstatSync(this.files.databaseFd, { bigint: true });
    const after = this.files.readWalIndex();
    const last = this.#fileState;
    const checkpoints =
      before && after && checkpointsOf(before) === checkpointsOf(after) ? checkpointsOf(after) : undefined;
    this.#fileState = checkpoints === undefined ? undefined : { checkpoints, written: `${mtimeNs} ${size}` };
    return last !== undefined && last.checkpoints === checkpoints && last.written !== this.#fileState?.written;
  }

  close(): void {
    this.#spare.close();
    this.#current.close();
    this.files.close();
  }
}

const COMPANIONS = ["-wal", "-shm"];

interface FileState {
  /** Changes with every checkpoint that may write to the file. */
  readonly checkpoints: string;
  /** Changes with every write. */
  readonly written: string;
}

/**
 * With every frame in the file and none added no checkpoint writes to it, not even one that restarts the WAL; otherwise
 * one that got further does.
 */
function checkpointsOf({ header, checkpoint }: WalIndexState): string {
  const { backfilledFrames, backfillAttemptedFrames } = checkpoint;
  if (backfilledFrames === header.mxFrame) return `${header.changeCounter} complete`;
  return [header.changeCounter, header.salt1, header.salt2, backfilledFrames, backfillAttemptedFrames].join(" ");
}

/** Undefined when there is no such file. */
function identityOf(file: string): string | undefined {
  const stat = fs.statSync(file, { throwIfNoEntry: false, bigint: true });
  return stat && `${stat.dev}:${stat.ino}:${stat.birthtimeNs}`;
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
