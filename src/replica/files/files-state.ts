import fs from "node:fs";

import Database from "better-sqlite3";

import { BEFORE_FIRST, offset as toOffset, type Offset } from "../../event/positions.ts";
import { invariant } from "../../runtime/invariant.ts";
import { TreeIndex } from "../../tree/tree-index.ts";
import { damagedState, isDamage, MetaTable } from "../meta-table.ts";
import { TouchedPlaces } from "./touched-places.ts";
import { TreeSnapshot } from "./tree-snapshot.ts";

const FORMAT_VERSION = "1";
/** The names of contents are random: with less of them at hand every insert would read the disk. */
const CACHE_KIB = 32 * 1024;

/**
 * `<standby>/.tidemark/trees.db`: what the trees look like as far as they were made durable. What is applied after that
 * stands in an open transaction, which a crash takes back: the events are then read again. The lock on the standby's
 * state protects it as well.
 */
export class FilesState {
  readonly index: TreeIndex;
  readonly touched: TouchedPlaces;
  readonly #database: Database.Database;
  readonly #meta: MetaTable;
  #offset: Offset;
  #begun = false;

  /** One of another log is begun anew. @throws INTEGRITY, RECORD_VERSION */
  static open(file: string, logId: string): FilesState {
    try {
      const state = new FilesState(file);
      if (state.#meta.get("log_id") === logId) return state;
      state.close();
      removeFilesState(file);
      const fresh = new FilesState(file);
      fresh.#meta.set("log_id", logId);
      return fresh;
    } catch (error) {
      throw isDamage(error) ? damagedState("the standby's index of its trees", file, error) : error;
    }
  }

  private constructor(file: string) {
    this.#database = new Database(file, { timeout: 0 });
    try {
      this.#database.pragma("journal_mode=WAL");
      // The position that is recorded next relies on what was committed here.
      this.#database.pragma("synchronous=FULL");
      this.#database.pragma(`cache_size=-${CACHE_KIB}`);
      this.#meta = new MetaTable(this.#database, FORMAT_VERSION);
      this.index = new TreeIndex(this.#database);
      this.touched = new TouchedPlaces(this.#database);
      this.#offset = toOffset(Number(this.#meta.get("offset") ?? BEFORE_FIRST));
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** Every event of trees up to here is on the disk, and in the index. */
  get offset(): Offset {
    return this.#offset;
  }

  /** What is changed from here on is kept with the next commit. */
  begin(): void {
    if (this.#begun) return;
    this.#database.exec("BEGIN IMMEDIATE");
    this.#begun = true;
  }

  /** SQLite took back what was not committed, for want of room: the events must be read again. */
  get lost(): boolean {
    return this.#begun && !this.#database.inTransaction;
  }

  commit(offset: Offset): void {
    invariant(this.#begun && !this.lost, "there is nothing to commit");
    this.#meta.set("offset", String(offset));
    this.#database.exec("COMMIT");
    this.#begun = false;
    this.#offset = offset;
  }

  /** The trees as they are now, while more is applied: only what is committed is in it. */
  snapshot(): TreeSnapshot {
    invariant(!this.#begun, "what is not committed is in no snapshot");
    return new TreeSnapshot(this.#database.name);
  }

  close(): void {
    this.#database.close();
  }
}

export function removeFilesState(file: string): void {
  for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(file + suffix, { force: true });
}
