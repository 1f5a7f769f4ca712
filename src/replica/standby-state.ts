import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { epoch as toEpoch, offset as toOffset, type Epoch, type Offset } from "../event/positions.ts";
import { errnoOf, hasCode, TidemarkError } from "../runtime/errors.ts";
import type { PageIndex } from "../sqlite/page-index.ts";
import { PageIndexStore } from "../sqlite/page-index-store.ts";
import { removeFilesState } from "./files/files-state.ts";
import { damagedState, isDamage, MetaTable } from "./meta-table.ts";
import { prepareStandby, STATE_DIRECTORY, type StandbyPaths } from "./standby-paths.ts";

const STATE_FILE = "state.db";
const FORMAT_VERSION = "1";
const WHAT = "the state of the standby";

/** The log that a standby follows, and how far. */
export interface StandbyPosition {
  readonly set: string;
  readonly logId: string;
  /** Every event up to here is applied, or is in the row of its database. */
  readonly offset: Offset;
  /** SHA-256 of the record at `offset`; undefined when the log could not be asked. */
  readonly hash: Uint8Array | undefined;
  readonly timeMs: number;
  readonly epoch: Epoch;
  /** Of the log's genesis; undefined when an older version recorded the position. */
  readonly checksumSeed: bigint | undefined;
}

export interface RecordSteps {
  /** Events of trees up to here will be in their own state; undefined when there never was one. */
  readonly filesOffset: Offset | undefined;
  /** Writes the page indexes, as of the call. */
  readonly saveIndexes: () => void;
  /** Makes all that the position says durable. */
  readonly durable: () => Promise<void>;
  /** What is recorded survives a power cut when the call returns. */
  readonly lasting?: true;
}

/**
 * `<standby>/.tidemark/state.db`: position, page indexes, and which files are ours. One process at a time: the file is
 * open in exclusive mode, a lock that ends with the process.
 */
export class StandbyState {
  readonly indexes: PageIndexStore;
  readonly #database: Database.Database;
  readonly #meta: MetaTable;

  /** For a reseed. State that is damaged (nobody can have it open then) is begun anew. */
  static openToReseed(paths: StandbyPaths): StandbyState {
    let state;
    try {
      state = new StandbyState(paths);
      state.beginReseed(paths);
      return state;
    } catch (error) {
      state?.close();
      if (!isDamage(error) && !hasCode(error, "INTEGRITY")) throw error;
    }
    for (const suffix of ["", "-wal", "-shm"]) fs.rmSync(stateFile(paths) + suffix, { force: true });
    const fresh = new StandbyState(paths);
    fresh.beginReseed(paths);
    return fresh;
  }

  /** Of the standby in a directory, in which no agent works; undefined: none ever followed there. @throws as the constructor */
  static positionIn(standby: string): StandbyPosition | undefined {
    if (!fs.existsSync(path.join(standby, STATE_DIRECTORY, STATE_FILE))) return undefined;
    const state = new StandbyState(prepareStandby(standby));
    try {
      return state.position;
    } finally {
      state.close();
    }
  }

  /** @throws AGENT_RUNNING, RECORD_VERSION (made by a newer Tidemark), INTEGRITY */
  constructor(paths: StandbyPaths) {
    const file = stateFile(paths);
    this.#database = openExclusively(file, paths.root);
    try {
      this.#meta = new MetaTable(this.#database, FORMAT_VERSION);
      this.#database.exec("CREATE TABLE IF NOT EXISTS claim (name TEXT PRIMARY KEY) STRICT");
      this.indexes = new PageIndexStore(this.#database);
    } catch (error) {
      this.#database.close();
      throw isDamage(error) ? damagedState(WHAT, file, error) : error;
    }
    // The lock protects the spool as well: nobody else's files are in it.
    for (const name of fs.readdirSync(paths.spool)) fs.rmSync(path.join(paths.spool, name), { force: true });
  }

  get position(): StandbyPosition | undefined {
    const logId = this.#meta.get("log_id");
    if (logId === undefined) return undefined;
    const hash = this.#meta.get("hash");
    const seed = this.#meta.get("checksum_seed");
    return {
      logId,
      set: this.#meta.get("set") ?? "",
      offset: toOffset(Number(this.#meta.get("offset"))),
      hash: hash ? Uint8Array.from(Buffer.from(hash, "hex")) : undefined,
      timeMs: Number(this.#meta.get("time_ms")),
      epoch: toEpoch(Number(this.#meta.get("epoch"))),
      checksumSeed: seed === undefined ? undefined : BigInt(seed),
    };
  }

  /** Events of trees up to here were in their own state when the position was recorded. */
  get filesOffset(): Offset | undefined {
    const offset = this.#meta.get("files_offset");
    return offset === undefined ? undefined : toOffset(Number(offset));
  }

  /** UUID of this standby, by which the log knows it. */
  get id(): string {
    const known = this.#meta.get("standby_id");
    if (known !== undefined) return known;
    const id = randomUUID();
    this.#durably(() => this.#meta.set("standby_id", id));
    return id;
  }

  /** Whether a reseed was begun and is not finished: the next start goes on with it. */
  get reseeding(): boolean {
    return this.#meta.get("reseeding") === "1";
  }

  /** Forgets log, position and indexes, and remembers that every database is to be replaced. */
  beginReseed(paths: StandbyPaths): void {
    removeFilesState(paths.files);
    this.#durably(() => {
      for (const name of this.indexes.names()) this.indexes.remove(name);
      this.#database.exec("DELETE FROM meta WHERE key NOT IN ('format', 'standby_id')");
      this.#database.exec("DELETE FROM claim");
      this.#meta.set("reseeding", "1");
    });
  }

  /** Notes, before its first file is made, that the database of this name is ours. */
  claim(name: string): void {
    this.#durably(() => this.#database.prepare("INSERT OR IGNORE INTO claim VALUES (?)").run(name));
  }

  claimed(name: string): boolean {
    return this.#database.prepare("SELECT 1 FROM claim WHERE name = ?").get(name) !== undefined;
  }

  /** Puts an index that was made anew in the place of a damaged one. */
  replaceIndex(name: string, index: PageIndex, offset: Offset): void {
    this.#durably(() => {
      this.indexes.remove(name);
      this.indexes.save(name, index, offset);
    });
  }

  /**
   * Records a position together with what `saveIndexes` writes, as of the call; commits only after `durable`, so that
   * a position is never recorded before the pages are safe.
   */
  async record(position: StandbyPosition, { filesOffset, saveIndexes, durable, lasting }: RecordSteps): Promise<void> {
    if (lasting) this.#database.pragma("synchronous=FULL");
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      saveIndexes();
      this.#setPosition(position);
      if (filesOffset !== undefined) this.#meta.set("files_offset", String(filesOffset));
      this.#database.prepare("DELETE FROM meta WHERE key = 'reseeding'").run();
      await durable();
      this.#database.exec("COMMIT");
    } catch (error) {
      if (this.#database.inTransaction) this.#database.exec("ROLLBACK");
      this.indexes.rolledBack();
      throw error;
    } finally {
      if (lasting) this.#database.pragma("synchronous=NORMAL");
    }
  }

  close(): void {
    this.#database.close();
  }

  #setPosition(position: StandbyPosition): void {
    this.#meta.set("set", position.set);
    this.#meta.set("log_id", position.logId);
    this.#meta.set("offset", String(position.offset));
    this.#meta.set("hash", position.hash ? Buffer.from(position.hash).toString("hex") : "");
    this.#meta.set("time_ms", String(position.timeMs));
    this.#meta.set("epoch", String(position.epoch));
    if (position.checksumSeed !== undefined) this.#meta.set("checksum_seed", String(position.checksumSeed));
  }

  /** With an fsync: what follows on the disk relies on it. */
  #durably(action: () => void): void {
    this.#database.pragma("synchronous=FULL");
    try {
      this.#database.transaction(action)();
    } finally {
      this.#database.pragma("synchronous=NORMAL");
    }
  }
}

function stateFile(paths: StandbyPaths): string {
  return path.join(paths.state, STATE_FILE);
}

function openExclusively(file: string, root: string): Database.Database {
  const database = new Database(file, { timeout: 0 });
  try {
    database.pragma("locking_mode=EXCLUSIVE");
    database.pragma("journal_mode=WAL");
    database.pragma("synchronous=NORMAL");
    database.pragma("cache_size=-2048");
    // In exclusive mode the lock that this takes stays.
    database.exec("BEGIN IMMEDIATE; COMMIT");
    return database;
  } catch (error) {
    database.close();
    if (isDamage(error)) throw damagedState(WHAT, file, error);
    if (!errnoOf(error)?.startsWith("SQLITE_BUSY")) throw error;
    throw new TidemarkError("AGENT_RUNNING", `another replica already works on the standby ${root}`, {
      hint: "Stop it first (`tidemark status` and `fuser` name it), or give this one a standby directory of its own.",
      cause: error,
    });
  }
}
